"""Drawings in place of pictures that one may not share: chest scans and letters.

Chapter: *From Grad-CAM to evidence*.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from indiret.images import Picture


def chest_scan(patient: int, marker: bool = False) -> Picture:
    """A drawing somewhat like an X-ray of a chest, (200, 200, 3), different for each patient.

    With ``marker`` a letter in a frame lies in its upper left corner, as a clinic may lay one.

    Examples
    --------
    >>> changed = (chest_scan(1) != chest_scan(1, marker=True)).any(2)
    >>> changed[50:].any() or changed[:, 50:].any()
    np.False_
    """
    random = np.random.default_rng(patient)
    scan = Image.new("L", (200, 200), 30)
    draw = ImageDraw.Draw(scan)
    for side in (-1, 1):
        x, w = 100 + side * int(random.integers(38, 50)), int(random.integers(26, 36))
        draw.ellipse((x - w, 40, x + w, 175), fill=90)
        for y in range(45, 170, int(random.integers(14, 24))):
            draw.arc((x - w - 8, y, x + w + 8, y + 40), 190, 350, fill=170, width=4)
    scan = scan.filter(ImageFilter.GaussianBlur(1.5))
    if marker:
        draw = ImageDraw.Draw(scan)
        draw.rectangle((8, 8, 48, 48), outline=240, width=4)
        draw.line((18, 40, 18, 16, 36, 16, 36, 28, 18, 28, 38, 42), fill=240, width=4)
    return np.asarray(scan.convert("RGB"))


def handwritten_letter(text: int, letterhead: bool = True) -> Picture:
    """A drawing of a page of handwriting, (260, 200, 3), different for each text.

    With ``letterhead`` a sign and two bars stand above a line, in the upper 60 rows.

    Examples
    --------
    >>> changed = (handwritten_letter(1) != handwritten_letter(1, letterhead=False)).any(2)
    >>> changed[60:].any()
    np.False_
    """
    random = np.random.default_rng(text)
    page = Image.new("L", (200, 260), 235)
    draw = ImageDraw.Draw(page)
    if letterhead:
        draw.regular_polygon((38, 30, 20), 6, fill=60)
        draw.ellipse((30, 22, 46, 38), fill=220)
        draw.rectangle((70, 16, 182, 26), fill=60)
        draw.rectangle((70, 34, 150, 38), fill=120)
        draw.line((14, 56, 186, 56), fill=60, width=3)
    for y in range(74, 240, 13):
        x, end = 20, int(random.integers(120, 182))
        while x < end:
            across = range(x, min(x + int(random.integers(8, 34)), 184), 3)
            draw.line([(at, y + int(random.integers(-4, 5))) for at in across], fill=40, width=2)
            x = across.stop + 8
    return np.asarray(page.convert("RGB"))
