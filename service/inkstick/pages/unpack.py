"""ZIP and mail, member by member, as a stream of small messages. Runs inside the sandbox.

Nothing is ever extracted to a path: the service gets a name (as data), then chunks, and names the file itself.
Messages: ``{"member": name}`` starts a member, ``{"chunk": true}`` with one blob carries its bytes,
``{"bad": {code, message}}`` ends it with an error. A fault of the whole archive is raised.
"""

from __future__ import annotations

import email
import email.policy
import html
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from typing import IO, Any, cast

from inkstick.errors import ArchiveUnsafe, Damaged, DocumentError, Encrypted, TooLarge, Unsupported
from inkstick.intake.ignore import ignored_file, ignored_folder

Message = tuple[dict[str, Any], Sequence[bytes]]
CHUNK = 1 << 20
MAX_MAIL = 256 << 20
MAX_PARTS = 5000
MAX_UNPARTED = 64 << 10
MIN_CHINESE = 4
"""Fewer characters may as well be two accented letters side by side."""
_UTF8, _ENCRYPTED = 0x800, 0x1
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCODED_WORD = re.compile(rb"=\?([A-Za-z0-9_-]{1,40})\?(?=[BbQq]\?)")
_LONG_WORD = re.compile(r"[^\s/?\u2e80-\uffef-]{80}(?=[^\s/?\u2e80-\uffef-])")
_PAIRS = re.compile(rb"(?:[\0-\x7f]|[\xa1-\xfe]{2})*")
_WIDER = {
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "ks_c_5601-1987": "cp949", "euc-kr": "cp949",
    "big5": "big5hkscs", "iso-8859-1": "cp1252", "iso-8859-8-i": "iso-8859-8", "iso-8859-9": "cp1254",
}  # fmt: skip
_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError, IndexError)  # fmt: skip


def unpack(fd: int, media_type: str, passwords: Sequence[str], members: int, ratio: int) -> Iterator[Message]:
    """The members of the archive. Raises ArchiveUnsafe, Damaged, TooLarge, Unsupported for the whole."""
    with os.fdopen(os.dup(fd), "rb") as file:
        if media_type == "application/zip":
            yield from _zip(file, passwords, members, ratio)
        elif media_type == "message/rfc822":
            yield from _mail(file)
        else:
            raise Unsupported()


def _member(name: str, **more: Any) -> Message:
    return {"member": name[:400], **more}, ()


def _bad(error: DocumentError) -> Message:
    return {"bad": {"code": error.code, "message": error.message}}, ()


def _chunks(data: bytes) -> Iterator[Message]:
    for start in range(0, len(data), CHUNK):
        yield {"chunk": True}, (data[start : start + CHUNK],)


# ZIP ----------------------------------------------------------------------------------------------------------------


def _zip(file: IO[bytes], passwords: Sequence[str], members: int, ratio: int) -> Iterator[Message]:
    try:
        archive = zipfile.ZipFile(file)
    except _FAULTS as error:
        raise Damaged("The archive is damaged, or only a part of it is here.") from error
    infos = archive.infolist()
    if len(infos) > members:
        raise ArchiveUnsafe(f"The archive holds more than {members} files.")
    _check_overlap(infos)
    for info in infos:
        name = safe_name(zip_name(info))
        if not _is_folder(info) and not _is_ignored(name):
            yield _member(name)
            yield from _zip_member(archive, info, passwords, ratio)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    """Some programs of Windows' write a folder with a backslash at its end."""
    return info.is_dir() or (info.orig_filename.endswith("\\") and not info.file_size)


def _check_overlap(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how the smallest bombs are made. Raises ArchiveUnsafe."""
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            raise ArchiveUnsafe("Members of the archive overlap, as in an archive bomb.")
        end = info.header_offset + 30 + info.compress_size


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, passwords: Sequence[str], ratio: int
) -> Iterator[Message]:
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        yield _bad(ArchiveUnsafe("A link or device inside an archive is not followed."))
        return
    try:
        written = 0
        with _open_member(archive, info, passwords) as stream:
            while chunk := stream.read(CHUNK):
                written += len(chunk)
                if written > CHUNK and written > ratio * max(info.compress_size, 1):
                    raise ArchiveUnsafe("The archive unpacks to many times its size, as an archive bomb does.")
                yield {"chunk": True}, (chunk,)
    except ArchiveUnsafe:
        raise
    except DocumentError as error:
        yield _bad(error)
    except _FAULTS:
        yield _bad(Damaged())


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, passwords: Sequence[str]) -> IO[bytes]:
    if info.compress_type not in _PACKINGS:  # also AES, whatever the password
        raise Unsupported("It is packed in a way that is not read (AES, Deflate64 or another): unpack it yourself.")
    if not info.flag_bits & _ENCRYPTED:
        return archive.open(info)
    for password in passwords:
        try:
            return archive.open(info, pwd=password.encode())
        except (RuntimeError, NotImplementedError):
            continue
    raise Encrypted.despite(passwords)


def zip_name(info: zipfile.ZipInfo) -> str:
    """The member's name, guessed where the archive does not say that it is UTF-8."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return info.orig_filename
    return guess_text(raw)


def guess_text(raw: bytes) -> str:
    """Bytes of unknown encoding as text: UTF-8, else Japanese if it has kana, else Chinese, else cp437."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    japanese = _decoded(raw, "cp932")
    if japanese and any("\u3041" <= c <= "\u30ff" for c in japanese):
        return japanese
    chinese = _decoded(raw, "gb18030")
    if chinese and _is_plausible(chinese):
        return chinese
    return raw.decode("cp437")


def _decoded(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _is_plausible(text: str) -> bool:
    """All that is not ASCII is an ordinary Chinese character or its punctuation, and there are two at least."""
    foreign = [c for c in text if ord(c) > 127]
    usual = [c for c in foreign if "\u4e00" <= c <= "\u9fff" or "\u3000" <= c <= "\u303f" or "\uff00" <= c <= "\uffef"]
    return len(foreign) >= 2 and len(usual) == len(foreign)


def safe_name(name: str) -> str:
    """A name for people: forward slashes, no drive, no way up, nothing invisible. It never becomes a path."""
    name = "".join(c for c in name.replace("\\", "/") if c.isprintable())
    name = re.sub(r"^[A-Za-z]:", "", name)
    parts = [part.strip() for part in name.split("/")]
    return "/".join(part[:255] for part in parts if part not in ("", ".", ".."))[-400:] or "unnamed"


def _is_ignored(name: str) -> bool:
    *folders, file = name.split("/")
    return ignored_file(file) or any(ignored_folder(folder) for folder in folders)


# Mail ---------------------------------------------------------------------------------------------------------------


def _mail(file: IO[bytes]) -> Iterator[Message]:
    data = file.read(MAX_MAIL + 1)
    if len(data) > MAX_MAIL:
        raise TooLarge()
    data = _ENCODED_WORD.sub(lambda word: b"=?" + _as_browsers(word[1].decode()).encode() + b"?", data)
    message = email.message_from_bytes(data, policy=email.policy.default)
    if not message.keys():
        raise Damaged("The mail has no header.")
    body = _body(message)
    yield _member("message.txt", type="text/plain")
    texts = "\n\n".join(_body_text(part) for part in _texts(message, body))
    yield from _chunks(_folded(_head(message) + "\n" + texts).encode("utf-8", "replace"))
    for number, part in enumerate(_parts(message), 1):
        if number > MAX_PARTS:
            raise ArchiveUnsafe("The mail has too many parts.")
        if _is_unparted(part):
            yield _member("parts of the mail")
            yield _bad(Damaged("The parts of the mail cannot be told apart."))
        elif part is not body and (_file_name(part) or part.get_content_maintype() != "text"):
            yield from _attachment(part, number)


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """The leaves of the mail; a mail inside it is one leaf."""
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.iter_parts():
            yield from _parts(cast(EmailMessage, part))
    else:
        yield message


def _is_unparted(part: EmailMessage) -> bool:
    """It should have parts, but what parts them is not there, or not what it says."""
    return part.get_content_maintype() == "multipart" and not part.is_multipart()


def _body(message: EmailMessage) -> EmailMessage | None:
    """The plain text; the HTML where that is all there is, or where the plain text is empty."""
    try:
        plain, html = (cast("EmailMessage | None", message.get_body((kind,))) for kind in ("plain", "html"))
    except (KeyError, AttributeError, ValueError, TypeError):
        return None
    return html if plain is None or (html is not None and not _body_text(plain).strip()) else plain


def _texts(part: EmailMessage, body: EmailMessage | None) -> Iterator[EmailMessage]:
    """The body and the texts beside it, in order: some programs write one above a picture and one below it. Of what is
    said in several ways (plain and HTML) one."""
    if part is body:
        yield part
    elif part.is_multipart() and part.get_content_subtype() in ("alternative", "related"):
        one = body if any(leaf is body for leaf in _parts(part)) else _body(part)
        if one is not None:
            yield one
    elif part.is_multipart() and part.get_content_maintype() == "multipart":
        for inner in part.iter_parts():
            yield from _texts(cast(EmailMessage, inner), body)
    elif _is_inline_text(part):
        yield part


def _is_inline_text(part: EmailMessage) -> bool:
    """All text without a name of its own; and what could not be parted, as long as a person may want to read it."""
    if _is_unparted(part):
        return len(_content(part)) <= MAX_UNPARTED
    return part.get_content_maintype() == "text" and not _file_name(part)


def _head(message: EmailMessage) -> str:
    lines = []
    for name in ("From", "To", "Cc", "Date", "Subject"):
        try:
            value = str(message.get(name) or "")
        except Exception:  # the header parser has many ways to fail on hostile headers
            value = ""
        if value:
            lines.append(f"{name}: {value}")
    return "\n".join(lines) + "\n"


def _body_text(body: EmailMessage) -> str:
    raw = body.get_payload(decode=True)
    text = mail_text(raw if isinstance(raw, bytes) else b"", _charset(body))
    return html_text(text) if body.get_content_subtype() == "html" else text


def _charset(part: EmailMessage) -> str:
    try:
        return part.get_content_charset("")
    except (ValueError, KeyError, LookupError, AttributeError, TypeError):
        return ""


def mail_text(raw: bytes, charset: str) -> str:
    """Text in the encoding that it says, as browsers understand that; in a likely one where it says none, or nonsense
    (``undefined``)."""
    try:
        if charset not in ("", "us-ascii", "ascii"):
            return raw.decode(_as_browsers(charset), "replace")
    except (LookupError, ValueError):
        pass
    chinese = _decoded(raw, "gb18030") if _PAIRS.fullmatch(raw) else ""
    likely = chinese if sum(char > "\x7f" for char in chinese) >= MIN_CHINESE else ""
    return _decoded(raw, "utf-8") or likely or raw.decode("cp1252", "replace")


def _folded(text: str) -> str:
    """No word is longer than the paper is wide, on which the text is laid out: the rest of it would not be there."""
    return _LONG_WORD.sub(lambda part: f"{part[0]}\n", text)


def _as_browsers(charset: str) -> str:
    """Mails say one encoding and use a larger one of the same family: a name may have a character of that alone."""
    return _WIDER.get(charset.lower(), charset)


def html_text(source: str) -> str:
    """The words of an HTML mail: no styles, no scripts, lines where its blocks begin or end; many are not closed."""
    source = re.sub(r"(?is)<(style|script|head)\b.*?</\1\s*>|<!--.*?-->", "", source)
    source = re.sub(r"(?i)<(br|hr|/p|/div|/tr|/li|/h[1-6])\b[^>]*>", "\n", source)
    source = re.sub(r"(?i)</t[dh]\s*>", "\t", source)
    source = re.sub(r"(?i)(?<![\n\t])<(p|div|tr|li|table|blockquote|pre|dt|dd|h[1-6])\b[^>]*>", "\n", source)
    source = re.sub(r"(?i)(?<![\n\t])<t[dh]\b[^>]*>", "\t", source)
    text = html.unescape(re.sub(r"<[^>]*>", "", source))
    return re.sub(r"\n\s*\n\s*", "\n\n", text).strip()


def _attachment(part: EmailMessage, number: int) -> Iterator[Message]:
    yield _member(safe_name(_file_name(part) or f"part {number}"))
    try:
        yield from _chunks(_content(part))
    except (ValueError, KeyError, LookupError, AttributeError, TypeError, RecursionError):
        yield _bad(Damaged())


def _file_name(part: EmailMessage) -> str:
    try:
        return part.get_filename() or ""
    except (ValueError, KeyError, LookupError, AttributeError, TypeError):
        return ""


def _content(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload()
        return inner[0].as_bytes() if isinstance(inner, list) and inner else b""  # type: ignore[union-attr]
    raw = part.get_payload(decode=True)
    return raw if isinstance(raw, bytes) else b""
