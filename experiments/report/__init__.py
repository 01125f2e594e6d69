"""What the runs of any folders say: tables, plots, and a page of all."""
