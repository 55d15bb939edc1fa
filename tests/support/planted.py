"""Pages with a known truth, what a good model would answer to them, and answers with one planted error each.

A page is a list of pieces (heading, paragraph, table, header, footer), drawn by `support.pages` from a seed, so that
the same seed gives the same page everywhere. `answer` writes it as a good model does: Markdown, tables as HTML,
running header and footer left out, and the harmless differences that real models show (spaces, punctuation of the
other script, bold marks, words joined over line ends). `plant` then spoils one thing.
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2

from inkstick.pages.view import Pixels
from support.pages import A4, Sheet, font, photographed, pixels, scanned, wrapped

KINDS = ("english", "chinese", "mixed", "table", "open_table", "columns")
ERRORS = (
    "digit_changed",
    "digits_swapped",
    "line_dropped",
    "line_invented",
    "invented_on_blank_area",
    "paragraph_of_another_page",
)


def _words(text: str) -> list[str]:
    return text.split()


_EN = _words(
    """
    harbour ledger northern district records goods received sent weight price owner committee letter
    answer warehouse before after during several account payment ship captain arrival departure
    cargo grain timber cotton the of and with under between agreed signed inspection officer report
    remaining balance delivery station winter summer office public printed copies members meeting
    minutes decision property river bridge contract annual increase total average measured according
    statement enclosed reference regarding provided however therefore although quality number road
    """
)
_ZH = _words(
    """
    本馆 港口 档案 阅览室 读者 登记 货物 账目 会议 决定 委员会 批准 合同 付款 仓库 运输 船只 到达
    出发 检查 报告 办公室 北部 地区 记录 数量 重量 价格 所有人 根据 有关 规定 应当 以及 其中 上述
    已经 尚未 完成 工作 人员 负责 管理 使用 申请 材料 提交 审核 通过 通知 各单位 必须 按照 要求 及时
    处理 问题 情况 进行 调查 结果 表明 今年 去年 增加 减少 总计 平均 水平 质量 标准 桥梁 道路 建设
    工程 验收 合格 签字 盖章 生效 附件 说明 保存 查阅 复印 费用 收取 退还
    """
)
_GOODS = _words(
    """
    wheat barley rice tea cotton silk copper iron timber rope paper salt sugar coffee wool glass
    coal lead
    """
)
_ZH_GOODS = _words(
    """
    小麦 大麦 大米 茶叶 棉花 丝绸 铜料 铁器 木材 绳索 纸张 食盐 白糖 咖啡 羊毛 玻璃 煤炭 铅块
    """
)


@dataclass(frozen=True)
class Piece:
    """`kind`: title, paragraph, table, header or footer. `lines`: as printed. `rows`: a table's cells."""

    kind: str
    text: str = ""
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Printed:
    """A page: its seed, kind, pieces in reading order, and whether its lower half is empty."""

    seed: int
    kind: str
    pieces: tuple[Piece, ...]
    chinese: bool


# -- writing


def _amount(chance: random.Random) -> str:
    return f"{chance.randrange(1, 90)},{chance.randrange(1000):03}.{chance.randrange(100):02}"


def _number(chance: random.Random) -> str:
    return chance.choice(
        [
            _amount(chance),
            str(chance.randrange(10, 99999)),
            f"{chance.randrange(1, 100)}.{chance.randrange(10)}%",
            f"No. {chance.randrange(1000, 99999)}",
        ]
    )


def _en_sentence(chance: random.Random) -> str:
    words = [chance.choice(_EN) for _ in range(chance.randrange(8, 17))]
    if chance.random() < 0.45:
        words.insert(chance.randrange(2, len(words)), _number(chance))
    if chance.random() < 0.2:
        words += ["on", f"{chance.randrange(1, 29)}", chance.choice(["March", "July", "October"]), "19" + _two(chance)]
    if chance.random() < 0.4:
        words[4] += ","
    return " ".join(words).capitalize() + "."


def _two(chance: random.Random) -> str:
    return f"{chance.randrange(10, 99)}"


def _zh_sentence(chance: random.Random) -> str:
    words = [chance.choice(_ZH) for _ in range(chance.randrange(7, 14))]
    if chance.random() < 0.5:
        words.insert(chance.randrange(1, len(words)), chance.choice([_zh_date(chance), _zh_money(chance)]))
    if chance.random() < 0.5:
        words[3] += "，"
    return "".join(words) + "。"


def _zh_date(chance: random.Random) -> str:
    return f"19{_two(chance)}年{chance.randrange(1, 13)}月{chance.randrange(1, 29)}日"


def _zh_money(chance: random.Random) -> str:
    return f"{chance.randrange(100, 99999)}元"


def _paragraph(chance: random.Random, chinese: bool, sentences: int) -> str:
    make = _zh_sentence if chinese else _en_sentence
    return ("" if chinese else " ").join(make(chance) for _ in range(sentences))


def sentence(chance: random.Random, chinese: bool) -> str:
    """A sentence that could stand on such a page."""
    return _zh_sentence(chance) if chinese else _en_sentence(chance)


class _Press:
    """Writes on a sheet and remembers the pieces."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.pieces: list[Piece] = []

    def write(self, kind: str, text: str, size: int, **wishes: Any) -> None:
        lines = wrapped(text, font(self.sheet.face, size, self.sheet.index), self.sheet.right - self.sheet.left)
        self.sheet.write(text, size, **wishes)
        self.pieces.append(Piece(kind, text, tuple(lines)))

    def table(self, rows: Sequence[Sequence[str]], widths: Sequence[int], size: int, *, ruled: bool) -> None:
        self.sheet.table(rows, widths, size, ruled=ruled)
        self.pieces.append(Piece("table", rows=tuple(tuple(row) for row in rows)))

    def edge(self, kind: str, text: str, y: int) -> None:
        """A running header or footer."""
        self.sheet.pen.text((self.sheet.left, y), text, font=font(self.sheet.face, 26, self.sheet.index), fill=0)
        self.pieces.append(Piece(kind, text, (text,)))


def _rows(chance: random.Random, chinese: bool) -> list[list[str]]:
    head = ["编号", "品名", "数量", "单价", "金额"] if chinese else ["No.", "Goods", "Count", "Price", "Amount"]
    rows = [head]
    for number in range(1, chance.randrange(7, 14)):
        price, count = chance.randrange(110, 9900), chance.randrange(2, 480)
        name = chance.choice(_ZH_GOODS if chinese else _GOODS)
        rows.append([str(number), name, str(count), f"{price / 100:.2f}", f"{price * count / 100:,.2f}"])
    return rows


def make(seed: int, *, rough: bool = False) -> tuple[Printed, Pixels]:
    """The page of that seed: what is printed on it, and its picture after scanner or camera. `rough`: after a copier
    and a cheap scanner too (about 120 dpi, noise, strong JPEG compression)."""
    page, sheet, chance = _printed(seed)
    return page, _seen(sheet.array(), seed, chance, rough)


def printed(seed: int) -> Printed:
    """What is printed on the page of that seed."""
    return _printed(seed)[0]


def _printed(seed: int) -> tuple[Printed, Sheet, random.Random]:
    chance = random.Random(f"page {seed}")
    kind = KINDS[seed % len(KINDS)]
    chinese = kind == "chinese" or (kind in ("table", "open_table", "columns") and chance.random() < 0.5)
    face = "cjk" if chinese or kind == "mixed" else chance.choice(["tiro", "helv"])
    press = _Press(Sheet(face=face))
    press.edge("header", "港口档案汇编" if chinese else "Records of the northern harbour", 70)
    _fill(press, chance, kind, chinese)
    press.edge("footer", f"第 {seed % 90 + 1} 页" if chinese else f"Page {seed % 90 + 1}", A4[1] - 110)
    return Printed(seed, kind, tuple(press.pieces), chinese), press.sheet, chance


def _seen(gray: Any, seed: int, chance: random.Random, rough: bool) -> Pixels:
    if rough:
        return pixels(_copied(scanned(gray, seed, skew=chance.uniform(-1, 1), noise=12, blur=1.0), chance))
    if chance.random() < 0.15:
        return pixels(photographed(gray, seed))
    skew, noise, blur = chance.uniform(-0.7, 0.7), chance.uniform(2, 9), chance.uniform(0.4, 1.0)
    return pixels(scanned(gray, seed, skew=skew, noise=noise, blur=blur))


def _copied(gray: Any, chance: random.Random) -> Any:
    """Coarse and compressed: the resolution goes down to 105 to 140 dpi, and the picture through JPEG."""
    share = chance.uniform(0.525, 0.7)
    small = cv2.resize(gray, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, chance.randrange(25, 45)])
    coarse = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return cv2.resize(coarse, (gray.shape[1], gray.shape[0]), interpolation=cv2.INTER_CUBIC)


def _fill(press: _Press, chance: random.Random, kind: str, chinese: bool) -> None:
    sheet = press.sheet
    press.write("title", sentence(chance, chinese)[: 14 if chinese else 36].strip("，。 ,."), 50, centre=True)
    if kind == "columns":
        _columns(press, chance, chinese)
        return
    for n in range(2 if "table" in kind else chance.randrange(3, 5)):
        press.write("paragraph", _paragraph(chance, chinese or (kind == "mixed" and n % 2 == 1), 3), 36)
    if "table" in kind:
        press.table(_rows(chance, chinese), (150, 260, 220, 240, 320), 32, ruled=kind == "table")
        press.write("paragraph", _paragraph(chance, chinese, 2), 36)
    assert sheet.y < sheet.size[1] - 200, "the page is too short for what is printed on it"


def _columns(press: _Press, chance: random.Random, chinese: bool) -> None:
    sheet, top = press.sheet, press.sheet.y
    middle = sheet.size[0] // 2
    for left, right in ((sheet.margin, middle - 35), (middle + 35, sheet.size[0] - sheet.margin)):
        sheet.column(left, right, top)
        for _ in range(2):
            press.write("paragraph", _paragraph(chance, chinese, 3), 32)
    sheet.column(sheet.margin, sheet.size[0] - sheet.margin, sheet.y)


# -- what a model answers


def answer(page: Printed, pieces: Sequence[Piece] | None = None) -> str:
    """Markdown of the page (or of `pieces` instead of its own) with harmless differences."""
    chance = random.Random(f"answer {page.seed}")
    parts = [_said(piece, chance) for piece in (page.pieces if pieces is None else pieces)]
    return "\n\n".join(part for part in parts if part)


def _said(piece: Piece, chance: random.Random) -> str:
    if piece.kind in ("header", "footer"):
        return ""
    if piece.kind == "table":
        return _html(piece.rows)
    text = _harmless(piece.text, chance)
    return f"# {text}" if piece.kind == "title" else text


def _html(rows: Sequence[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"


def _harmless(text: str, chance: random.Random) -> str:
    if chance.random() < 0.3:
        text = text.translate(str.maketrans("，。：", ",.:"))
    if chance.random() < 0.3:
        text = re.sub(r"(?<=[\u4e00-\u9fff])(?=\d)|(?<=\d)(?=[\u4e00-\u9fff])", " ", text)
    if chance.random() < 0.3:
        text = text.replace(". ", ".\n", 1)
    words = text.split(" ")
    if len(words) > 6 and chance.random() < 0.4:
        place = chance.randrange(len(words))
        words[place] = f"**{words[place]}**"
    if len(words) > 12 and chance.random() < 0.2:
        place = chance.randrange(3, len(words))
        words[place] = re.sub(r"^([a-z]{4})([a-z]{3,})", r"\1-\2", words[place])
    return " ".join(words)


# -- errors


def plant(page: Printed, error: str, attempt: int = 0) -> str:
    """The page's answer with one `error` of `ERRORS`, in a place chosen by the page's seed and `attempt`."""
    chance = random.Random(f"{error} {page.seed} {attempt}")
    pieces = [piece for piece in page.pieces if piece.kind not in ("header", "footer")]
    spoil = {
        "digit_changed": _digit_changed,
        "digits_swapped": _digits_swapped,
        "line_dropped": _line_dropped,
        "line_invented": _line_invented,
        "invented_on_blank_area": _invented_below,
        "paragraph_of_another_page": _foreign_paragraph,
    }[error]
    return answer(page, spoil(page, pieces, chance))


def _digit_changed(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    def change(text: str, at: int) -> str:
        digit = chance.choice([d for d in "0123456789" if d != text[at]])
        return text[:at] + digit + text[at + 1 :]

    return _edited(pieces, chance, r"\d", change)


def _digits_swapped(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    return _edited(
        pieces, chance, r"(\d)(?=(?!\1)\d)", lambda text, at: text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    )


def _edited(pieces: list[Piece], chance: random.Random, pattern: str, edit: Any) -> list[Piece]:
    """One place that fits `pattern`, in a text or a cell, edited. Raises IndexError where there is none."""
    places: list[tuple[int, tuple[int, int] | None, int]] = []
    for n, piece in enumerate(pieces):
        places += [(n, None, found.start()) for found in re.finditer(pattern, piece.text)]
        for y, row in enumerate(piece.rows):
            for x, cell in enumerate(row):
                places += [(n, (y, x), found.start()) for found in re.finditer(pattern, cell)]
    n, cell_at, at = chance.choice(places)
    piece = pieces[n]
    if cell_at is None:
        return [*pieces[:n], replace(piece, text=edit(piece.text, at)), *pieces[n + 1 :]]
    y, x = cell_at
    row = (*piece.rows[y][:x], edit(piece.rows[y][x], at), *piece.rows[y][x + 1 :])
    return [*pieces[:n], replace(piece, rows=(*piece.rows[:y], row, *piece.rows[y + 1 :])), *pieces[n + 1 :]]


def _line_dropped(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """A printed line of a paragraph, or a row of a table, is left out."""
    n = chance.choice([n for n, piece in enumerate(pieces) if piece.kind == "table" or len(piece.lines) > 2])
    piece = pieces[n]
    if piece.kind == "table":
        y = chance.randrange(1, len(piece.rows))
        spoilt = replace(piece, rows=piece.rows[:y] + piece.rows[y + 1 :])
    else:
        y = chance.randrange(len(piece.lines))
        kept = piece.lines[:y] + piece.lines[y + 1 :]
        spoilt = replace(piece, text=("" if ord(piece.text[0]) > 0x2E7F else " ").join(kept))
    return [*pieces[:n], spoilt, *pieces[n + 1 :]]


def _line_invented(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """A sentence that is not printed, inside a paragraph or between two."""
    new = sentence(chance, page.chinese)
    n = chance.choice([n for n, piece in enumerate(pieces) if piece.kind == "paragraph"])
    if chance.random() < 0.5:
        return [*pieces[:n], Piece("paragraph", new), *pieces[n:]]
    text = pieces[n].text
    ends = [found.end() for found in re.finditer("[.。] ?(?!\\d)", text)]
    at = chance.choice(ends)
    gap = "" if page.chinese else " "
    return [*pieces[:n], replace(pieces[n], text=f"{text[:at].rstrip()}{gap}{new}{gap}{text[at:]}"), *pieces[n + 1 :]]


def _invented_below(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Text for the empty part under the last line."""
    return [*pieces, Piece("paragraph", _paragraph(chance, page.chinese, chance.randrange(1, 3)))]


def _foreign_paragraph(page: Printed, pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """A paragraph of another page stands where one of this page should."""
    n = chance.choice([n for n, piece in enumerate(pieces) if piece.kind == "paragraph"])
    other = random.Random(f"another page {page.seed}")
    return [*pieces[:n], Piece("paragraph", _paragraph(other, page.chinese, 3)), *pieces[n + 1 :]]
