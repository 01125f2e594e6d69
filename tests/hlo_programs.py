"""Compiled programs written by hand, as far as what is read off their texts."""

SUM = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}
"""


def program(*lines, more=""):
    """A program of one computation with these lines; `more` are further computations."""
    start = "ENTRY %main.1_spmd (x: f32[8,3]) -> f32[8,3] {"
    return "\n".join(["HloModule jit_step", SUM, more, start, *[f"  {x}" for x in lines], "}"])
