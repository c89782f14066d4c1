"""Pages as tests read them: elements with their attributes and texts, properly nested."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "col"}


class Elements(HTMLParser):
    """Elements of a page with their attributes and texts, properly nested."""

    def __init__(self, source):
        super().__init__()
        self.source, self.elements, self.open = source, [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), attrs
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        self.handle_data(" ")
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, name=None):
        found = [e for e in self.elements if e["tag"] == tag]
        return [e for e in found if name in (None, *(e.get("class") or "").split())]

    def text(self, tag, name=None):
        return [" ".join(e["text"].split()) for e in self.all(tag, name)]
