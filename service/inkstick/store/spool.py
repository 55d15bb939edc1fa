"""Documents on disk, from the inbox to done/ or failed/: a file protocol without a database.

A document is *accepted* when ``spool/<id>/claim.json`` and ``spool/<id>/original`` are on the disk. From then on it
ends, whatever happens between, in exactly one of done/ and failed/, byte for byte (or stays where its profile wants).
The order of writes and syncs, and why it is this one, is in docs/durability.md; the crash tests take each step away
and see that it was needed.

Accepting is here; `conclude` is in `inkstick.store.conclusion`, `recover` in `inkstick.store.recovery`, page
checkpoints in `inkstick.store.checkpoints`. Errors: `Blocked` (nothing has happened, or what has is undone or will be
by `recover`), `SourceChanged`, FileNotFoundError (the dropped file is gone).
"""

from __future__ import annotations

import errno
import functools
import hashlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from inkstick.document import Page
from inkstick.errors import Blocked, InkstickError, Unavailable, Unsupported, UsageError
from inkstick.profile import Originals, Profile
from inkstick.store import checkpoints, conclusion, recovery, removal
from inkstick.store.claim import Claim, Outcome, clean_relpath
from inkstick.store.disk import Identity, Sink, Source
from inkstick.store.recovery import Recovery
from inkstick.store.shelf import CHUNK, NOT_TOLD, Shelf, SourceChanged
from inkstick.store.steps import write_atomic

_NO_RENAME = {errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM}


class Spool(Shelf):
    """All documents of one data folder. Thread-safe; one process at a time (the ledger's lock sees to that)."""

    _kept: set[Identity] | None = None  # None: not looked up yet

    @functools.cached_property
    def _going(self) -> set[str]:
        """Documents that nobody is shown any more, and that are not quite gone."""
        return set()

    @functools.cached_property
    def _full(self) -> set[str]:
        """Documents whose end is written down, and for whose end the start found no room."""
        return set()

    # -- accepting

    def claim_file(
        self, path: Path, relpath: str, profile: Profile, *, verdict: Mapping[str, str] | None = None
    ) -> Claim:
        """Accept a file from an inbox: by rename where that can be, else (or where it must stay) by copy.

        `path` is `relpath` below the inbox. Raises FileNotFoundError, SourceChanged, Unsupported (not a regular file)
        and Blocked; in every case the file is still in the inbox, or `recover` will accept it.
        """
        text, raw = clean_relpath(relpath)
        relative = PurePosixPath(relpath)
        root = path.parents[len(relative.parts) - 1]
        if root / relative != path:
            raise UsageError(f"{path} is not {relpath!r} below an inbox")
        with self.disk.source(root, relative, home=self.data.spool) as source:
            found = source.stat()
            if found.kind != "file":
                raise Unsupported("Only regular files are read: this is a link, a device or a pipe.")
            size = found.identity.size
            where = None if root == self.data.inbox else str(root)
            known = {"identity": found.identity, "size": size, "root": where, "verdict": verdict}
            claim = self.new_claim(text, raw, "inbox", "rename", profile, **known)
            # Another hard link could be written through later, and a file that is kept must stay: those are copied.
            if claim.originals is Originals.KEEP or found.links > 1:
                return self._claim_by_copy(source, claim)
            try:
                return self._claim_by_rename(source, claim)
            except OSError as error:
                if error.errno not in _NO_RENAME:
                    raise
            return self._claim_by_copy(source, claim)

    def _claim_by_rename(self, source: Source, claim: Claim) -> Claim:
        folder = self.folder(claim.id)
        with self._undone_on_error(claim.id):
            self.disk.make_dir(folder, at="accept.make_folder")
            self.write_claim(claim)
            source.sync(at="accept.sync_source")
            self.check_unchanged(source, claim)
            source.move_to(folder / "original", at="accept.rename")
        if self.disk.exists(folder / "original"):
            moved = self.disk.stat(folder / "original")
            if moved.kind != "file":  # swapped between the look and the rename
                self._put_back(claim)
                raise SourceChanged
        self.disk.sync_dir(folder, at="accept.sync_folder")
        source.sync_dir(at="accept.sync_source_folder")
        return claim

    def _put_back(self, claim: Claim) -> None:
        _, place = conclusion.source_path(self, claim)
        self.disk.rename_new(self.original(claim.id), place, at="accept.put_back")
        self.disk.remove_tree(self.folder(claim.id), at="accept.undo")

    def _claim_by_copy(self, source: Source, claim: Claim) -> Claim:
        folder = self.folder(claim.id)
        part = folder / "original.part"
        self.check_space(claim.size or 0)
        with self._undone_on_error(claim.id):
            self.disk.make_dir(folder, at="accept.make_folder")
            # A source that a power cut could still tear would come back as another document.
            source.sync(at="accept.sync_source")
            if claim.originals is Originals.KEEP:
                source.sync_dir(at="accept.sync_kept_name")  # accepted as kept: then it must be there
            sha256 = self._copy(source, part)
            self.check_unchanged(source, claim)
            if self.digest(part) != sha256:
                raise Unavailable("The copy of a file differs from it: the disk or the device is not reliable.")
            claim = replace(claim, method="copy", sha256=sha256)
            self.seal(claim, part)
        if claim.originals is not Originals.KEEP:
            self.forget_source(source, claim)
        self._remember(claim)
        return claim

    def _copy(self, source: Source, part: Path) -> str:
        digest = hashlib.sha256()
        sink = self.disk.create(part, at="accept.copy")
        try:
            with source.open() as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    sink.write(chunk)
        finally:
            sink.close()
        self.disk.sync_file(part, at="accept.sync_copy")
        return digest.hexdigest()

    def _undone_on_error(self, identifier: str) -> _Undo:
        return _Undo(self, identifier)

    # -- uploads

    def begin_upload(self, name: str, relpath: str, profile: Profile, *, size: int = 0) -> Upload:
        """A document that arrives in pieces. `size`: how many bytes are expected, where that is known."""
        claim = self.new_upload(name, profile, size, relpath)
        with self._undone_on_error(claim.id):
            self.disk.make_dir(self.folder(claim.id), at="accept.make_folder")
            return Upload(self, claim, self.disk.create(self.folder(claim.id) / "original.part", at="accept.upload"))

    # -- looking

    def claims(self, skip: Container[str] = frozenset()) -> Iterator[Claim]:
        """Accepted documents that have not ended, in order of arrival. Those in `skip` are not even looked at."""
        for identifier in self.disk.list(self.data.spool):
            if identifier in skip:
                continue
            names = self.entries(identifier)
            if "original" in names and "claim.json" in names and "outcome.json" not in names:
                claim = self.readable(identifier)
                if claim is not None:
                    yield claim

    def unfinished(self) -> Iterator[Claim]:
        """Documents whose ending or reopening was cut off by a full disk: call `conclude` or `reopen` once more."""
        for identifier in self.disk.list(self.data.spool):
            names = self.entries(identifier)
            if {"outcome.json", "reopening.json"} & set(names) and not conclusion.finished(names):
                claim = self.readable(identifier)
                if claim is not None:
                    yield claim

    def everything(self) -> Iterator[tuple[Claim, Outcome | None]]:
        """All documents ever accepted here, in order of arrival, with their outcome if they have ended. One whose end
        `recover` found no room for has not."""
        for identifier in self.disk.list(self.data.spool):
            names = self.entries(identifier)
            if "claim.json" in names and ("original" in names or "outcome.json" in names):
                try:
                    found = self.claim(identifier), None if identifier in self._full else self.outcome(identifier)
                except NOT_TOLD:
                    continue  # `recover` reports it
                yield found

    def kept(self) -> frozenset[Identity]:
        """Files that were accepted and may still lie in an inbox: they are not to be accepted again."""
        with self.lock:
            if self._kept is None:
                claims = (claim for claim, _ in self.everything())
                self._kept = {claim.identity for claim in claims if claim.identity and claim.method == "copy"}
            return frozenset(self._kept)

    def _remember(self, claim: Claim) -> None:
        with self.lock:
            if self._kept is not None and claim.identity is not None:
                self._kept.add(claim.identity)

    # -- page checkpoints

    def checkpoint(self, work: str, page: Page) -> None:
        """Keep a page that was read: `work` is sha256 of the document's sha256 and its profile's reading key."""
        checkpoints.write(self.disk, self.data, work, page)

    def checkpoints(self, work: str) -> Iterator[Page]:
        """The pages kept so far, by number. One that cannot be read is left out: see `drop_torn_checkpoints`."""
        return checkpoints.read(self.disk, self.data, work)

    def drop_torn_checkpoints(self, work: str) -> int:
        """Forget pages that the disk gives back damaged, so that they are read again; how many there were."""
        return checkpoints.drop_torn(self.disk, self.data, work)

    def checkpoint_numbers(self, work: str) -> frozenset[int]:
        """Which pages are kept, without opening them."""
        return checkpoints.numbers(self.disk, self.data, work)

    def checkpoint_page(self, work: str, number: int) -> Page | None:
        """One page, if it is kept."""
        return checkpoints.read_one(self.disk, self.data, work, number)

    def has_checkpoint(self, work: str, number: int) -> bool:
        return self.disk.exists(checkpoints.path(self.data, work, number))

    def drop_checkpoints(self, work: str) -> None:
        """Only when no document needs them any more; they are derived, so nothing is synced."""
        self.disk.remove_tree(checkpoints.folder(self.data, work), at="checkpoint.drop")

    def sweep_checkpoints(self, needed: Collection[str]) -> None:
        """After a start: drop what a crash brought back, or left, that none of the works still to be done needs."""
        for work in checkpoints.works(self.disk, self.data):
            if work not in needed:
                self.drop_checkpoints(work)

    # -- the end, and after a crash

    def staging(self, identifier: str) -> Path:
        """A fresh, empty folder in which the results are built. It is published whole by `conclude`."""
        staging = self.folder(identifier) / "staging"
        self.disk.remove_tree(staging, at="stage.clear")
        self.disk.make_dir(staging, at="stage.make")
        return staging

    def conclude(self, identifier: str, wish: Outcome) -> Outcome:
        """Publish staging/ (unless the document failed), put the original where its profile wants it. Idempotent:
        a document that has an outcome already keeps that one, and what is missing of it is done."""
        with self.lock:
            claim = self.claim(identifier)
            outcome = self.outcome(identifier) or conclusion.intend(self, claim, wish)
            outcome = conclusion.finish(self, claim, outcome)
            self._full.discard(identifier)
            return outcome

    def reopen(self, identifier: str) -> Claim:
        """For a retry: an ended document is accepted once more, its original back in the spool. Results that were
        published stay; new ones are published beside them. Raises UsageError when there is no original any more."""
        with self.lock:
            return conclusion.reopen(self, self._known(identifier))

    def amend(self, identifier: str, profile: Mapping[str, object]) -> Claim:
        """Change what is asked of a document, before a retry of it."""
        with self.lock:
            claim = replace(self._known(identifier), profile=dict(profile))
            write_atomic(self.disk, self.folder(identifier) / "claim.json", claim.as_bytes(), at="amend.claim")
            return claim

    def removals(self) -> list[str]:
        """Documents that shall go and are not quite gone."""
        ids = self.disk.list(self.data.spool)
        return [identifier for identifier in ids if self.disk.exists(self.folder(identifier) / removal.INTENT)]

    def remove(self, identifier: str, forget: Callable[[str], None]) -> None:
        """Delete an ended document: results, original, all that is known of it. `forget` is called with its id when
        that is written down: from then on nobody is shown it. Raises UsageError, Blocked."""
        with self.lock:
            removal.intend(self, self._known(identifier))
            forget(identifier)
            self._going.add(identifier)
            try:
                self._finish_removal(identifier)
            except OSError as error:
                raise Unavailable(
                    f"The disk says: {error.strerror or type(error).__name__}.",
                    hint="The document is listed no more; what is left of its files goes as soon as the disk lets it.",
                ) from error

    def finish_removals(self) -> None:
        """Go on with deletions that the disk, or somebody who writes among the results, cut off since the start."""
        with self.lock:
            for identifier in sorted(self._going):
                self._finish_removal(identifier)

    def _finish_removal(self, identifier: str) -> None:
        removal.finish(self, identifier)
        self._going.discard(identifier)
        self._kept = None

    def _known(self, identifier: str) -> Claim:
        """Raises UsageError for a document of which nothing can be read here any more."""
        claim = self.readable(identifier)
        if claim is None:
            raise UsageError(
                "What was written down about the document is gone, or damaged.",
                hint=f"Drop it once more. What is left of it is in state/spool/{identifier}.",
                code="not_ready",
            )
        return claim

    def recover(self) -> Recovery:
        """After a start, before anything else: finish or undo whatever a crash left half done. Idempotent."""
        with self.lock:
            self._kept = None
            found = recovery.recover(self)
            self._full.clear()
            self._full.update(found.full)
            self._going.update(found.going)
            return found


class Upload:
    """A document on its way in, hashed while it is written. End it with `commit` or `abort`."""

    def __init__(self, spool: Spool, claim: Claim, sink: Sink) -> None:
        self.id = claim.id
        self.size = 0
        self._spool, self._claim, self._sink = spool, claim, sink
        self._digest = hashlib.sha256()
        self._checked = 0
        self._accepted = False

    def write(self, chunk: bytes) -> None:
        """Raises DiskFull when the reserve would be touched: the upload is then aborted."""
        self.size += len(chunk)
        self._digest.update(chunk)
        try:
            if self.size - self._checked > 16 * CHUNK:
                self._spool.check_space(len(chunk))
                self._checked = self.size
            self._sink.write(chunk)
        except (InkstickError, OSError):
            self.abort()
            raise

    def commit(self, sha256: str | None = None) -> Claim:
        """Accept. Raises UsageError (code checksum) when the bytes are not those that were announced."""
        found = self._digest.hexdigest()
        spool, folder = self._spool, self._spool.folder(self.id)
        with _Undo(spool, self.id):
            self._sink.close()
            if sha256 is not None and sha256.lower() != found:
                message = "The file arrived damaged: its SHA-256 is not the one announced."
                raise UsageError(message, hint="Send it again.", code="checksum")
            claim = replace(self._claim, size=self.size, sha256=found)
            spool.disk.sync_file(folder / "original.part", at="accept.sync_copy")
            spool.seal(claim, folder / "original.part")
        self._accepted = True
        return claim

    def abort(self) -> None:
        """Forget it, unless it was accepted."""
        self._sink.close()
        if self._accepted:
            return
        self._spool.disk.remove_tree(self._spool.folder(self.id), at="accept.undo")


class _Undo:
    """Takes a half-made claim away when its making fails, unless the original is in it already."""

    def __init__(self, spool: Spool, identifier: str) -> None:
        self._spool, self._id = spool, identifier

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, InkstickError | OSError):
            return
        folder = self._spool.folder(self._id)
        try:
            if not self._spool.disk.exists(folder / "original"):
                self._spool.disk.remove_tree(folder, at="accept.undo")
        except (Blocked, OSError):
            return  # recover() will
