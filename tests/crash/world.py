"""A small world around the spool: people who drop documents, an office that reads them, a witness who remembers
everything that the office ever promised, and inspectors who compare the disk with the promises.

The office does what the service does, with a reader that needs no time and always reads the same. The witness
survives crashes: what it was told (`tell`) was said to the outside, so it must hold from then on, in the very image
that a crash leaves, even before recovery.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from inkstick.clock import Clock, ManualClock
from inkstick.config import DataFolder
from inkstick.document import Block, Kind, Page
from inkstick.profile import Originals, Profile
from inkstick.store.claim import Claim, Outcome
from inkstick.store.disk import Disk
from inkstick.store.spool import Spool

ERROR = {"code": "damaged", "message": "The file is damaged.", "hint": "Scan it again."}


class Violation(AssertionError):
    """An invariant does not hold. `kind` is one of `KINDS`."""

    KINDS: ClassVar = ("lost", "doubled", "altered", "promise", "results", "repeated", "recovery", "ledger")

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(frozen=True)
class Drop:
    """A document that a person brings. `how`: rename, copy (its inbox is on another device) or upload. `synced`: it lay
    in the inbox for so long that it is durable. `fails`: it cannot be read; with `retry`, a person retries it and then
    it can."""

    relpath: str
    content: bytes
    how: str = "rename"
    pages: int = 1
    fails: bool = False
    retry: bool = False
    originals: Originals = Originals.MOVE
    synced: bool = False

    @functools.cached_property
    def profile(self) -> Profile:
        return Profile(originals=self.originals)

    @functools.cached_property
    def work(self) -> str:
        return hashlib.sha256(hashlib.sha256(self.content).digest() + self.profile.reading_key().encode()).hexdigest()


Scenario = tuple[tuple[Drop, ...], ...]  # what is dropped in each round; the next begins when all of it has ended


class Index(Protocol):
    """What the office needs of a ledger."""

    def accept(self, claims: list[Claim]) -> None: ...

    def concluded(self, identifier: str, outcome: Outcome) -> None: ...

    def reopened(self, identifier: str) -> None: ...

    def states(self) -> dict[str, str]: ...

    def rebuild(self, spool: Spool) -> object: ...


class MemoryIndex:
    """A ledger of a dictionary: each call is a commit, durable when it returns. `step` is the disk's kill point."""

    def __init__(self, rows: dict[str, str]) -> None:
        self.rows = rows
        self.step: Callable[[str], bool] = lambda at: True

    def accept(self, claims: list[Claim]) -> None:
        if self.step("ledger.accept"):
            for claim in claims:
                self.rows.setdefault(claim.id, "queued")

    def concluded(self, identifier: str, outcome: Outcome) -> None:
        if self.step("ledger.concluded") and identifier in self.rows:
            self.rows[identifier] = outcome.state

    def reopened(self, identifier: str) -> None:
        if self.step("ledger.reopened") and identifier in self.rows:
            self.rows[identifier] = "queued"

    def states(self) -> dict[str, str]:
        return dict(self.rows)

    def rebuild(self, spool: Spool) -> object:
        if self.step("ledger.rebuild"):
            for claim, outcome in spool.everything():
                self.rows[claim.id] = outcome.state if outcome else "queued"
        return None


@dataclass
class Witness:
    """What was promised to the outside. `send` passes each promise on (to the process that will outlive this one)."""

    accepted: dict[str, str] = field(default_factory=dict)  # id → content, as hex of its hash
    ended: dict[str, str] = field(default_factory=dict)  # id → outcome.json
    busy: str | None = None  # the document whose ending or reopening is under way
    pages: set[str] = field(default_factory=set)  # "work/number" of pages reported as read
    retried: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    send: Callable[[str], None] | None = None

    def tell(self, kind: str, key: str, value: str = "") -> None:
        if self.send is not None:
            self.send(json.dumps([kind, key, value]))
        getattr(self, f"_{kind}")(key, value)

    def hear(self, line: str) -> None:
        kind, key, value = json.loads(line)
        self.tell(kind, key, value)

    def _accepted(self, key: str, value: str) -> None:
        self.accepted[key] = value

    def _busy(self, key: str, value: str) -> None:
        self.busy = key or None

    def _ended(self, key: str, value: str) -> None:
        self.ended[key], self.busy = value, None

    def _reopened(self, key: str, value: str) -> None:
        self.ended.pop(key, None)
        self.retried.add(key)
        self.busy = None

    def _reading(self, key: str, value: str) -> None:
        if key in self.pages:
            self.repeated.append(key)

    def _page(self, key: str, value: str) -> None:
        self.pages.add(key)

    def _dropping(self, key: str, value: str) -> None:
        self.pages -= {page for page in self.pages if page.startswith(key + "/")}


@functools.cache
def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@functools.cache
def read_page(content: bytes, number: int) -> Page:
    """The reader: what stands on a page depends on the document's bytes and the number alone."""
    text = hashlib.sha256(content + bytes([number])).hexdigest()
    return Page(number, 100, 200, "fake", blocks=(Block(1, Kind.PARAGRAPH, text),))


@functools.cache
def result_files(drop: Drop) -> dict[str, bytes]:
    texts = [read_page(drop.content, number).text() for number in range(1, drop.pages + 1)]
    record = json.dumps({"content": name_of(drop.content), "pages": texts}).encode()
    return {"record.json": record, "text.md": "\n".join(texts).encode(), "tables/1.csv": texts[0].encode()}


class Office:
    """The service, in small: recover, accept, read, publish, retry; until all is done that lies in the inbox."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.spool = Spool(world.data, world.disk, world.clock, entropy=world.entropy)
        self.witness = world.witness

    def start(self) -> None:
        found = self.spool.recover()
        self.world.index.rebuild(self.spool)
        if found.leftovers:
            raise Violation("recovery", f"left over: {found.leftovers}")
        for claim, outcome in self.spool.everything():  # they are listed now: who asks is told
            if outcome is None:
                if claim.id in self.witness.ended:
                    self.witness.tell("reopened", claim.id)
                self._acknowledge(claim)
            elif claim.id not in self.witness.ended:
                self.witness.tell("ended", claim.id, outcome.as_bytes().decode())
        self.witness.tell("busy", "")
        contents = [self.world.content_of(claim) for claim in self.spool.claims()]
        needed = {self.world.drop_of(content).work for content in contents}
        for work in {page.split("/")[0] for page in self.witness.pages} - needed:
            self.witness.tell("dropping", work)
        self.spool.sweep_checkpoints(needed)

    def run(self, drops: tuple[Drop, ...]) -> None:
        self._catch_up()
        self._take_uploads(drops)
        self._take_inboxes()
        for claim in list(self.spool.claims()):
            self._process(claim)
        for claim, outcome in list(self.spool.everything()):
            drop = self.world.drop_of(self.world.content_of(claim))
            if outcome and outcome.state == "failed" and drop.retry and claim.id not in self.witness.retried:
                self._retry(claim)
        for drop in drops:
            self.witness.tell("dropping", drop.work)
            self.spool.drop_checkpoints(drop.work)

    def _catch_up(self) -> None:
        """What a full disk cut off in this very process: the folders know how far it came."""
        for claim in list(self.spool.unfinished()):
            outcome = self.spool.outcome(claim.id)
            if outcome is None:
                self._retry(claim)
            else:
                self._conclude(claim, outcome)
        for claim, outcome in list(self.spool.everything()):
            if claim.id not in self.witness.accepted:
                self._accept(claim)
            if outcome is not None and claim.id not in self.witness.ended:
                self._conclude(claim, outcome)

    def _acknowledge(self, claim: Claim) -> None:
        content = name_of(self.world.disk.read(self.spool.original(claim.id)))
        self.witness.tell("accepted", claim.id, content)

    def _accept(self, claim: Claim) -> None:
        self.world.index.accept([claim])
        self._acknowledge(claim)

    def _take_uploads(self, drops: tuple[Drop, ...]) -> None:
        arrived = Counter(self.witness.accepted.values())
        for drop in drops:
            if drop.how != "upload":
                continue
            if arrived[name_of(drop.content)]:
                arrived[name_of(drop.content)] -= 1
                continue
            upload = self.spool.begin_upload(drop.relpath, drop.relpath, drop.profile)
            half = len(drop.content) // 2
            upload.write(drop.content[:half])
            upload.write(drop.content[half:])
            self._accept(upload.commit(hashlib.sha256(drop.content).hexdigest()))

    def _take_inboxes(self) -> None:
        kept = self.spool.kept()
        for root, relpath in self.world.dropped():
            if self.world.disk.stat(root / relpath).identity not in kept:
                profile = self.world.profile_of(relpath)
                self._accept(self.spool.claim_file(root / relpath, relpath, profile))

    def _process(self, claim: Claim) -> None:
        content = self.world.disk.read(self.spool.original(claim.id))
        drop = self.world.drop_of(name_of(content))
        if drop.fails and claim.id not in self.witness.retried:
            self._conclude(claim, Outcome("failed", error=ERROR))
            return
        for number in range(1, drop.pages + 1):
            if not self._has_page(drop, number):
                self.witness.tell("reading", f"{drop.work}/{number}")
                self.spool.checkpoint(drop.work, read_page(content, number))
                self.witness.tell("page", f"{drop.work}/{number}")
        self._stage(claim, drop)
        self._conclude(claim, Outcome("done", pages=drop.pages, sha256=name_of(content)))

    def _has_page(self, drop: Drop, number: int) -> bool:
        return any(page == read_page(drop.content, number) for page in self.spool.checkpoints(drop.work))

    def _stage(self, claim: Claim, drop: Drop) -> None:
        staging, disk = self.spool.staging(claim.id), self.world.disk
        pages = list(self.spool.checkpoints(drop.work))
        assert [page.number for page in pages] == list(range(1, drop.pages + 1))
        disk.make_dir(staging / "tables", at="stage.make")
        for name, data in result_files(drop).items():
            disk.write(staging / name, data, at="stage.write")

    def _conclude(self, claim: Claim, wish: Outcome) -> None:
        self.witness.tell("busy", claim.id)
        outcome = self.spool.conclude(claim.id, wish)
        self.world.index.concluded(claim.id, outcome)
        self.witness.tell("ended", claim.id, outcome.as_bytes().decode())

    def _retry(self, claim: Claim) -> None:
        self.witness.tell("busy", claim.id)
        self.spool.reopen(claim.id)
        self.world.index.reopened(claim.id)
        if self.world.index.states()[claim.id] != "queued":
            raise Violation("ledger", f"{claim.id} was retried and is not queued")
        self.witness.tell("reopened", claim.id)
        self._process(claim)


@dataclass
class World:
    """The disk with everything on it, the people's documents and the witness. `disk` is replaced at each crash."""

    scenario: Scenario
    disk: Disk
    index: Index
    entropy: Callable[[int], bytes]
    data: DataFolder
    other_inbox: Path
    clock: Clock = field(default_factory=lambda: ManualClock(1e9))
    witness: Witness = field(default_factory=Witness)
    round: int = 0

    def __post_init__(self) -> None:
        self.by_name = {name_of(drop.content): drop for drops in self.scenario for drop in drops}
        self.profiles = {drop.relpath: drop.profile for drops in self.scenario for drop in drops}

    # -- what the office may know

    def drop_of(self, content: str) -> Drop:
        if content not in self.by_name:
            raise Violation("altered", f"a document of unknown content {content}")
        return self.by_name[content]

    def profile_of(self, relpath: str) -> Profile:
        return self.profiles[relpath]

    def content_of(self, claim: Claim) -> str:
        return self.witness.accepted[claim.id]

    def dropped(self) -> Iterator[tuple[Path, str]]:
        for root in (self.data.inbox, self.other_inbox):
            for path in self.files(root):
                yield root, str(path.relative_to(root))

    def files(self, folder: Path) -> Iterator[Path]:
        for name in self.disk.list(folder):
            if self.disk.stat(folder / name).kind == "folder":
                yield from self.files(folder / name)
            else:
                yield folder / name

    # -- people

    def expected(self) -> Counter[str]:
        """How many documents of each content were brought so far."""
        return Counter(name_of(drop.content) for drops in self.scenario[: self.round + 1] for drop in drops)

    def bring(self) -> None:
        """People drop this round's documents; again those that a crash took before they were accepted (a person
        sees that, and copying to the inbox was never promised to be safe)."""
        here = Counter(self._arrived())
        accepted, expected = Counter(self.witness.accepted.values()), self.expected()
        # A person whose file is there, but torn, copies that one again rather than another.
        for drop in sorted(self.scenario[self.round], key=lambda drop: not self.disk.exists(self._place_of(drop))):
            name = name_of(drop.content)
            known = max(here[name], accepted[name]) if drop.originals is Originals.KEEP else here[name] + accepted[name]
            path = self._place_of(drop)
            if drop.how == "upload" or known >= expected[name] or self._holds(path, drop.content):
                continue
            self._place(path, drop.content)
            if drop.synced:
                self.disk.sync_file(path, at="person")
                self.disk.sync_dir(path.parent, at="person")
            here[name] += 1

    def _arrived(self) -> Iterator[str]:
        """Contents of files that lie in an inbox, or in the spool and nobody was told; one with two names is one."""
        spooled = [path for path in self._spooled() if path.parent.name not in self.witness.accepted]
        seen = set()
        for path in (*spooled, *(root / relpath for root, relpath in self.dropped())):
            identity = self.disk.stat(path).identity
            if (identity.dev, identity.ino) not in seen:
                seen.add((identity.dev, identity.ino))
                yield name_of(self.disk.read(path))

    def _holds(self, path: Path, content: bytes) -> bool:
        return self.disk.exists(path) and self.disk.read(path) == content

    def _spooled(self) -> Iterator[Path]:
        for path in self.files(self.data.spool):
            if path.name == "original":
                yield path

    def _place_of(self, drop: Drop) -> Path:
        return (self.other_inbox if drop.how == "copy" else self.data.inbox) / drop.relpath

    def _place(self, path: Path, content: bytes) -> None:
        missing = []
        parent = path.parent
        while not self.disk.exists(parent):
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            self.disk.make_dir(folder, at="person")
            self.disk.sync_dir(folder.parent, at="person")
        self.disk.write(path, content, at="person")

    def contents(self, folder: Path) -> Iterator[str]:
        for path in self.files(folder):
            yield name_of(self.disk.read(path))

    # -- inspectors

    def inspect_image(self) -> None:
        """What was promised holds in the image that the crash left, before anything is repaired."""
        self._inspect_promises()
        self._inspect_results(complete=False)
        for identifier in self.witness.pages:
            work, number = identifier.split("/")
            path = self.data.state / "pages" / work / f"{number}.json"
            if not self.disk.exists(path) or b'"number":' + number.encode() not in self.disk.read(path):
                raise Violation("promise", f"page {number} was reported as read and is not there")

    def _inspect_promises(self) -> None:
        in_inbox = Counter(name for root in (self.data.inbox, self.other_inbox) for name in self.contents(root))
        for identifier, content in self.witness.accepted.items():
            if identifier == self.witness.busy:
                continue
            if identifier in self.witness.ended:
                self._inspect_ended(identifier, content)
            else:
                self._inspect_accepted(identifier, content)
        accepted = Counter(self.witness.accepted.values())
        for content, count in accepted.items():
            stays = self.by_name[content].originals is Originals.KEEP
            if not stays and in_inbox[content] > self.expected()[content] - count:
                raise Violation("doubled", f"{content} is in the inbox still, or again")

    def _inspect_accepted(self, identifier: str, content: str) -> None:
        folder = self.data.spool / identifier
        for name in ("claim.json", "original"):
            if not self.disk.exists(folder / name):
                raise Violation("lost", f"accepted {identifier} has no {name}")
        if name_of(self.disk.read(folder / "original")) != content:
            raise Violation("altered", f"accepted {identifier}")
        json.loads(self.disk.read(folder / "claim.json"))

    def _inspect_ended(self, identifier: str, content: str) -> None:
        outcome, drop = json.loads(self.witness.ended[identifier]), self.by_name[content]
        spooled = self.data.spool / identifier
        if self.disk.exists(spooled / "original"):
            raise Violation("doubled", f"ended {identifier} is in the spool still")
        if json.loads(self.disk.read(spooled / "outcome.json")) != outcome:
            raise Violation("promise", f"ended {identifier} has another outcome")
        if outcome["original"] is not None:
            place = self.data.root / outcome["original"]
            if not self.disk.exists(place):
                raise Violation("lost", f"ended {identifier} is not at {place}")
            if name_of(self.disk.read(place)) != content:
                raise Violation("altered", f"ended {identifier}")
        if outcome["explained"] is not None:
            explanation = self.data.root / outcome["explained"]
            if not self.disk.exists(explanation) or json.loads(self.disk.read(explanation))["document"] != identifier:
                raise Violation("promise", f"failed {identifier} is not explained")
        if outcome["results"] is not None:
            self._inspect_folder(self.data.results / outcome["results"], drop)
            if self.disk.exists(spooled / "staging"):
                raise Violation("doubled", f"ended {identifier} has staged results still")

    def _inspect_folder(self, folder: Path, drop: Drop) -> None:
        for name, data in result_files(drop).items():
            if not self.disk.exists(folder / name):
                raise Violation("results", f"{folder}: {name} is missing")
            if self.disk.read(folder / name) != data:
                raise Violation("results", f"{folder}: {name} is not whole")

    def _inspect_results(self, *, complete: bool) -> None:
        """Whatever is visible in results/ is whole. In the end: one for each document that was read."""
        found: Counter[str] = Counter()
        for path in self.files(self.data.results):
            if path.name not in ("record.json", "text.md", "1.csv"):
                raise Violation("results", f"a stranger: {path}")
            if path.name == "record.json":
                drop = self._drop_of_record(path)
                self._inspect_folder(path.parent, drop)
                found[name_of(drop.content)] += 1
            elif path.name == "text.md" and not self.disk.exists(path.parent / "record.json"):
                raise Violation("results", f"{path.parent} has no record")
        if complete:
            read = {name: count for name, count in self.expected().items() if self._is_read(self.by_name[name])}
            if found != read:
                raise Violation("results", f"{found} is not {read}")

    def _drop_of_record(self, path: Path) -> Drop:
        try:
            return self.by_name[json.loads(self.disk.read(path))["content"]]
        except (ValueError, KeyError):
            raise Violation("results", f"{path} is not whole") from None

    @staticmethod
    def _is_read(drop: Drop) -> bool:
        return not drop.fails or drop.retry

    def inspect_end(self) -> None:
        """All is done: every document is in its place once, its bytes are its own, its results are there once."""
        self._inspect_promises()
        self._inspect_originals()
        self._inspect_results(complete=True)
        if self.witness.repeated:
            raise Violation("repeated", f"pages were read twice: {self.witness.repeated}")
        self._inspect_index()
        self._inspect_tidiness()

    def _inspect_tidiness(self) -> None:
        pages = self.data.state / "pages"
        left = list(self.files(pages)) if self.disk.exists(pages) else []
        for identifier in self.disk.list(self.data.spool):
            names = {"claim.json", "outcome.json"} ^ set(self.disk.list(self.data.spool / identifier))
            left += [self.data.spool / identifier / name for name in names]
        if left:
            raise Violation("recovery", f"left behind: {left}")

    def _inspect_originals(self) -> None:
        expected, found = self.expected(), Counter[str]()
        for path in (*self.files(self.data.done), *self.files(self.data.failed)):
            if not path.name.endswith(".error.json"):
                found[self._known(path)] += 1
                self._inspect_place(path)
            elif not self.disk.exists(path.with_name(path.name.removesuffix(".error.json"))):
                content = self.witness.accepted[json.loads(self.disk.read(path))["document"]]
                if self.by_name[content].originals is not Originals.KEEP:
                    raise Violation("promise", f"{path} explains nothing")
        for path in self._spooled():
            raise Violation("doubled", f"{path} has not ended")
        for root in (self.data.inbox, self.other_inbox):
            for path in self.files(root):
                found[self._known(path)] += 1
        for name, count in expected.items():
            drop = self.by_name[name]
            wanted = 0 if drop.originals is Originals.DELETE and self._is_read(drop) else count
            if found[name] != wanted:
                kind = "lost" if found[name] < wanted else "doubled"
                raise Violation(kind, f"{drop.relpath} is there {found[name]} times and not {wanted}")

    def _known(self, path: Path) -> str:
        name = name_of(self.disk.read(path))
        if name not in self.by_name:
            raise Violation("altered", str(path))
        return name

    def _inspect_place(self, path: Path) -> None:
        drop = self.by_name[self._known(path)]
        wanted = self.data.done if self._is_read(drop) else self.data.failed
        if wanted not in path.parents:
            raise Violation("promise", f"{drop.relpath} ended in the wrong place: {path}")

    def _inspect_index(self) -> None:
        spool = Spool(self.data, self.disk, self.clock)
        folders = {claim.id: outcome.state if outcome else "queued" for claim, outcome in spool.everything()}
        if self.index.states() != folders:
            raise Violation("ledger", f"{self.index.states()} is not {folders}")
        if len(folders) != sum(self.expected().values()):
            raise Violation("doubled", f"{len(folders)} documents are listed")
