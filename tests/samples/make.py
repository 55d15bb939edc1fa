"""Makes the sample documents again: ``PYTHONPATH=service:tests python tests/samples/make.py``.

Needs the fonts that README.md names.

Everything in them is invented: there is no such reading room, tide gauge or store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pymupdf
from PIL import Image

from support.pages import Sheet, photographed, scanned

HERE = Path(__file__).resolve().parent
SERIF = "/usr/share/fonts/truetype/liberation/LiberationSerif-Regular.ttf"
SANS = "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf"
SONG = "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc"
HEI = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
SIMPLIFIED = 2
"""Which face of the Noto collections has the forms used on the Chinese mainland."""

HOURS = (
    "From the first Monday in March the reading room opens at nine in the morning and closes at six in the evening. "
    "On Saturdays it is open from ten until four. It is closed on Sundays, on public holidays, and for the two weeks "
    "of the yearly stocktaking, which this year begins on 14 July."
)
LOANS = (
    "Each visitor may borrow up to five volumes for thirty days. A loan can be extended once, by telephone or at the "
    "desk, unless somebody else has asked for the book. Maps, newspapers and anything printed before 1850 are read in "
    "the building and are not lent."
)
CARE = (
    "Please bring only pencils, paper and a computer to the tables. Coats, bags and umbrellas are left in the lockers "
    "by the entrance; a locker takes a coin of one unit, which is given back. Water in a closed bottle is allowed, "
    "other food and drink is not."
)
COPIES = (
    "Copies cost 12 cents a page in black and 35 cents in colour. Orders placed before 11:30 are ready on the same "
    "afternoon. Photographs without flash are free of charge for private study."
)
ZH_HOURS = (
    "自三月第一个星期一起，本阅览室周一至周五上午九时开放，下午六时闭馆；周六开放时间为上午十时至下午四时。"
    "周日、法定节假日以及每年的清点期间不对外开放，今年的清点自七月十四日开始，为期两周。"
)
ZH_LOANS = (
    "每位读者一次最多可借阅图书五册，借期三十天。如无他人预约，可在柜台或通过电话续借一次。"
    "地图、报纸以及一八五〇年以前的出版物仅供馆内阅览，不外借。"
)
ZH_CARE = (
    "请仅携带铅笔、纸张和电脑入座。外衣、雨伞和提包请存放在入口处的储物柜中，储物柜需投入一枚硬币，取物时退还。"
    "允许携带有盖的瓶装水，其他食品和饮料请勿带入。"
)
ZH_COPIES = (
    "复印费用为黑白每页一角二分，彩色每页三角五分。上午十一时三十分以前提交的复印申请，当日下午即可领取。"
    "仅供个人学习使用的拍照不收费，但请勿使用闪光灯。"
)
SOUP = [
    "Lentil soup for eight",
    "Rinse 500 g of brown lentils and leave them in cold water for two hours. Cut two onions, three carrots and a "
    "stick of celery into small pieces.",
    "Warm four spoons of oil in a large pot, add the onions and stir for six minutes until they are soft. Add the "
    "carrots and the celery and stir for another five minutes.",
    "Drain the lentils, put them into the pot with 2.5 litres of water and a bay leaf, and let everything simmer for "
    "45 minutes. Add salt only at the end, and a spoon of vinegar just before serving.",
    "Keeps for three days in a cold place. Serve with bread.",
]
ZH_SOUP = [
    "小米南瓜粥",
    "小米一百克洗净，用清水浸泡二十分钟。南瓜三百克去皮去籽，切成小块备用。",
    "锅中加入清水一千五百毫升，大火烧开后放入小米，转小火煮二十分钟，其间不时搅动，以免粘锅。",
    "放入南瓜块，继续煮十五分钟，待南瓜软烂、粥面浓稠时即可关火。可依口味加入少许冰糖。",
    "此量约为四人份，冷藏可保存一天。",
]
STOCK = [
    ["No.", "Article", "Unit", "Quantity", "Shelf"],
    ["1001", "Copy paper A4, white", "box", "48", "B-03"],
    ["1002", "Copy paper A3, white", "box", "12", "B-04"],
    ["1017", "Archive folder, grey", "piece", "350", "C-11"],
    ["1018", "Archive box, 10 cm", "piece", "275", "C-12"],
    ["1044", "Cotton tape, 8 mm", "roll", "64", "D-01"],
    ["1052", "Pencil, medium", "dozen", "19", "A-07"],
    ["1063", "Cleaning cloth", "pack", "33", "E-02"],
]
TIDES = [
    ["Day", "First high", "Height", "Second high", "Height"],
    ["Mon 3", "04:12", "3.81 m", "16:37", "3.64 m"],
    ["Tue 4", "04:55", "3.92 m", "17:21", "3.77 m"],
    ["Wed 5", "05:38", "4.05 m", "18:04", "3.88 m"],
    ["Thu 6", "06:20", "4.11 m", "18:49", "3.95 m"],
    ["Fri 7", "07:03", "4.08 m", "19:33", "3.90 m"],
    ["Sat 8", "07:47", "3.97 m", "20:18", "3.79 m"],
]


def english() -> Sheet:
    sheet = Sheet(face=SERIF)
    sheet.write("Reading room of the harbour archive", 52)
    sheet.write("Notice no. 17 of 20 February 2031", 34, after=1.2)
    for text in ("Dear visitors,", HOURS, LOANS, CARE, COPIES, "The reading room"):
        sheet.write(text, 38)
    return sheet


def chinese() -> Sheet:
    sheet = Sheet(face=SONG, index=SIMPLIFIED)
    sheet.write("港口档案馆阅览室通告", 56, centre=True)
    sheet.write("二〇三一年第十七号", 36, centre=True, after=1.2)
    for text in ("各位读者：", ZH_HOURS, ZH_LOANS, ZH_CARE, ZH_COPIES, "港口档案馆阅览室", "2031年2月20日"):
        sheet.write(text, 38)
    return sheet


def stock() -> Sheet:
    sheet = Sheet(face=SANS)
    sheet.write("Store room: stock on 30 June 2031", 48)
    sheet.write("Counted twice. Differences are entered in red on the shelf lists.", 34)
    sheet.table(STOCK, (150, 490, 180, 230, 200), 34)
    sheet.write("Shelf E is in the cellar; the key hangs at the desk.", 34)
    return sheet


def tides() -> Sheet:
    sheet = Sheet(face=SANS, size=(1654, 1170), margin=150)
    sheet.y = 130
    sheet.write("Tide table, week 45", 48)
    sheet.table(TIDES, (230, 290, 260, 320, 240), 36, ruled=False, high=78)
    sheet.write("Times are local time. Heights above chart datum.", 32)
    return sheet


def columns() -> Sheet:
    sheet = Sheet(face=SERIF, margin=160)
    sheet.write("The harbour archive: a short guide", 56)
    top = sheet.y
    sheet.column(160, 800, top)
    sheet.write("Opening hours", 40)
    sheet.write(HOURS, 32)
    sheet.write("Borrowing", 40)
    sheet.write(LOANS, 32)
    sheet.column(870, 1494, top)
    sheet.write("In the room", 40)
    sheet.write(CARE, 32)
    sheet.write("Copies", 40)
    sheet.write(COPIES, 32)
    return sheet


def recipe(texts: list[str], face: str, index: int = 0, size: tuple[int, int] = (1654, 2339)) -> Sheet:
    sheet = Sheet(face=face, index=index, size=size)
    sheet.write(texts[0], 60, after=1.0)
    for text in texts[1:]:
        sheet.write(text, 42)
    return sheet


def truth(name: str, *sheets: str) -> None:
    """The true text; pages are parted by a form feed."""
    (HERE / "truth" / f"{name}.txt").write_text("\f".join(f"{text}\n" for text in sheets), encoding="utf-8")


def scan_pdf(name: str, images: list[Any], quality: int = 55) -> None:
    """A PDF of JPEG pages, nothing else in it."""
    document = pymupdf.open()
    for image in images:
        height, width = image.shape[:2]
        page = document.new_page(width=width * 72 / 200, height=height * 72 / 200)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        page.insert_image(page.rect, stream=data.tobytes())
    document.set_metadata({})
    document.save(HERE / name, garbage=4, deflate=True, no_new_id=True)


def born_digital(name: str) -> None:
    """A PDF as a word processor writes it, with real text."""
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    texts = [("The harbour archive: house rules", 20), (HOURS, 11), (LOANS, 11), (CARE, 11), (COPIES, 11)]
    y = 70.0
    for text, size in texts:
        box = pymupdf.Rect(64, y, 531, y + 240)
        rest = page.insert_textbox(box, text, fontsize=size, fontname="F0", fontfile=SERIF, lineheight=1.4)
        y += 240 - rest + size
    document.subset_fonts()
    document.set_metadata({})
    document.save(HERE / name, garbage=4, deflate=True, no_new_id=True)
    truth(Path(name).stem, "\n".join(text for text, _ in texts))


def one_bit(sheet: Sheet, seed: int) -> Image.Image:
    """As fax machines and office scanners store it: black or white."""
    gray = scanned(sheet.array(), seed, skew=-0.2, noise=9)
    return Image.fromarray(np.where(gray < 150, 0, 255).astype(np.uint8)).convert("1")


def main() -> None:
    (HERE / "truth").mkdir(exist_ok=True)
    scan_pdf("english-letter.pdf", [scanned(english().array(), 1)])
    truth("english-letter", english().text())
    scan_pdf("chinese-notice.pdf", [scanned(chinese().array(), 2, skew=-0.4)])
    truth("chinese-notice", chinese().text())
    scan_pdf("stock-list.pdf", [scanned(stock().array(), 3, skew=0.2)])
    truth("stock-list", stock().text())
    cv2.imwrite(str(HERE / "two-columns.jpg"), scanned(columns().array(), 4), [cv2.IMWRITE_JPEG_QUALITY, 55])
    truth("two-columns", columns().text())
    cv2.imwrite(str(HERE / "tide-table.jpg"), scanned(tides().array(), 5), [cv2.IMWRITE_JPEG_QUALITY, 60])
    truth("tide-table", tides().text())
    soup, congee = recipe(SOUP, SERIF), recipe(ZH_SOUP, HEI, SIMPLIFIED)
    first, second = one_bit(soup, 6), one_bit(congee, 7)
    first.save(HERE / "two-page.tif", save_all=True, append_images=[second], compression="group4", dpi=(200, 200))
    truth("two-page", soup.text(), congee.text())
    photo = cv2.cvtColor(photographed(soup.array(), 8), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(HERE / "photographed.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 70])
    truth("photographed", soup.text())
    small = recipe(ZH_SOUP, SONG, SIMPLIFIED, (1654, 1400))
    quiet = scanned(small.array(), 9, noise=0, skew=0) // 32 * 36
    cv2.imwrite(str(HERE / "rotated-90.png"), np.rot90(quiet), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    truth("rotated-90", small.text())
    empty = np.full((2339, 1654), 255, np.uint8)
    inside = [scanned(image, 10 + n) for n, image in enumerate((tides().array(), empty, stock().array()))]
    scan_pdf("blank-inside.pdf", inside, 40)
    truth("blank-inside", tides().text(), "", stock().text())
    born_digital("house-rules.pdf")


if __name__ == "__main__":
    main()
