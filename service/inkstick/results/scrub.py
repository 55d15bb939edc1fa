"""Take out of a PDF whatever acts: scripts, launches, forms that submit, embedded files. What is printed stays.

Runs in the sandboxed worker (MuPDF objects). The original is hostile until proven otherwise, and the searchable copy is
what people open and pass on. Links within the document are kept; links out of it lose their target.
"""

from __future__ import annotations

import re
from typing import Any

_ACTIONS = (
    "JavaScript", "Launch", "URI", "SubmitForm", "ImportData", "ResetForm", "GoToR", "GoToE", "Rendition", "Sound",
    "Movie", "Hide", "Named", "SetOCGState", "Trans", "GoTo3DView", "RichMediaExecute", "Thread", "GoToDp",
)  # fmt: skip
_CATALOG = ("OpenAction", "AA", "AF", "Collection", "Requirements", "URI", "SpiderInfo")
_NAMES = ("JavaScript", "EmbeddedFiles")
_ANNOTATION = ("FS", "RichMediaContent", "RichMediaSettings", "Movie", "Sound", "3DD", "3DA")
_FILE_KEYS = frozenset(("F", "UF", "DOS", "Mac", "Unix"))
# Cheap look at an object's text before walking it: most objects of most documents have none of these
_SUSPECT = re.compile(rf"/(S\s*/({'|'.join(_ACTIONS)})|S\s*\d+ \d+ R|AA|AF|EF|FS|JS|RichMedia|Movie|Sound|3DD)\b")


def scrub(document: Any) -> None:
    """Remove actions, scripts and embedded files from an open pymupdf Document. Unreferenced objects go when it is
    saved with ``garbage=1`` or more."""
    import pymupdf

    tool = _Scrubber(pymupdf.mupdf)
    pdf = pymupdf._as_pdf_document(document)
    tool.catalog(pymupdf.mupdf.pdf_dict_gets(pymupdf.mupdf.pdf_trailer(pdf), "Root"))
    for xref in range(1, document.xref_length()):
        try:
            suspect = _SUSPECT.search(document.xref_object(xref, compressed=True))
            if suspect:
                tool.walk(pymupdf.mupdf.pdf_resolve_indirect(pymupdf.mupdf.pdf_new_indirect(pdf, xref, 0)))
        except (RuntimeError, pymupdf.mupdf.FzErrorBase):
            continue  # an object that cannot be parsed cannot be saved either: MuPDF writes null


class _Scrubber:
    def __init__(self, mupdf: Any) -> None:
        self.m = mupdf

    def catalog(self, root: Any) -> None:
        for key in _CATALOG:
            self.m.pdf_dict_dels(root, key)
        names = self.m.pdf_dict_gets(root, "Names")
        for key in _NAMES:
            self._delete(names, key)
        self._delete(self.m.pdf_dict_gets(root, "AcroForm"), "XFA")

    def walk(self, obj: Any, depth: int = 0) -> None:
        """Clean `obj` and the containers directly inside it; objects that it refers to have their own turn."""
        if depth > 60:
            return
        if self.m.pdf_is_dict(obj):
            self._clean(obj)
            children = [self.m.pdf_dict_get_val(obj, i) for i in range(self.m.pdf_dict_len(obj))]
        elif self.m.pdf_is_array(obj):
            children = [self.m.pdf_array_get(obj, i) for i in range(self.m.pdf_array_len(obj))]
        else:
            return
        for child in children:
            if not self.m.pdf_is_indirect(child):
                self.walk(child, depth + 1)

    def _clean(self, obj: Any) -> None:
        if self._name(obj, "S") in _ACTIONS:
            for key in self._keys(obj):
                self.m.pdf_dict_dels(obj, key)
            return
        if (
            self._name(obj, "Type") in ("Annot", "Page", "Catalog")
            or self._name(obj, "Subtype")
            or self._has(obj, "FT")
        ):
            for key in ("AA", "AF"):
                self.m.pdf_dict_dels(obj, key)
        if self._has(obj, "Rect"):
            for key in _ANNOTATION:
                self.m.pdf_dict_dels(obj, key)
        if self._is_file_map(self.m.pdf_dict_gets(obj, "EF")):
            self.m.pdf_dict_dels(obj, "EF")

    def _is_file_map(self, value: Any) -> bool:
        keys = self._keys(value) if self.m.pdf_is_dict(value) else []
        return bool(keys) and set(keys) <= _FILE_KEYS

    def _delete(self, obj: Any, key: str) -> None:
        if self.m.pdf_is_dict(obj):
            self.m.pdf_dict_dels(obj, key)

    def _keys(self, obj: Any) -> list[str]:
        return [self.m.pdf_to_name(self.m.pdf_dict_get_key(obj, i)) for i in range(self.m.pdf_dict_len(obj))]

    def _has(self, obj: Any, key: str) -> bool:
        return not self.m.pdf_is_null(self.m.pdf_dict_gets(obj, key))

    def _name(self, obj: Any, key: str) -> str:
        value = self.m.pdf_dict_gets(obj, key)
        return self.m.pdf_to_name(value) if self.m.pdf_is_name(value) else ""
