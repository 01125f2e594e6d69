"""A web page taken apart: tables, headings, texts, figures."""

import base64
import html.parser
import xml.etree.ElementTree as ElementTree


class Page(html.parser.HTMLParser):
    """Tables as lists of lines of cells, headings, texts, and every tag with its attributes."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.open, self.headings = [], [], [], []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            self.headings[-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def images(self):
        """{what it shows: the text in it}."""
        prefix = "data:image/svg+xml;base64,"
        found = {}
        for image in self.all("img"):
            assert image["src"].startswith(prefix)
            svg = ElementTree.fromstring(base64.b64decode(image["src"].removeprefix(prefix)))
            assert not [e for e in svg.iter() if e.tag.endswith(("script", "foreignObject"))]
            texts = ["".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")]
            found[image["alt"].partition(".")[0]] = texts
        return found
