"""Writes matplotlib's font cache while the image is built, so that no kernel has to make it.

The cache states two things that matplotlib would not find out by itself:

- The Noto fonts have every weight. Otherwise each fallback font without a bold face would log a
  warning, and one bold title would print twenty lines.
- The usual fonts of other systems exist. Programs name them out of habit (`font.family: SimHei`), and
  would get boxes and warnings. They get a font of the image instead.
"""

from dataclasses import replace
from pathlib import Path

import matplotlib
from matplotlib import font_manager

WEIGHTS = ("normal", "bold", "light", "medium", "semibold", "heavy", "black", "ultralight")

STAND_INS = {
    "DejaVu Sans": (
        *("Arial", "Calibri", "Helvetica", "Helvetica Neue", "Liberation Sans", "Lucida Grande", "Noto Sans"),
        *("Open Sans", "Roboto", "Segoe UI", "Tahoma", "Trebuchet MS", "Verdana"),
    ),
    "DejaVu Serif": (
        *("Cambria", "Garamond", "Georgia", "Liberation Serif", "Noto Serif", "Palatino", "Times"),
        "Times New Roman",
    ),
    "DejaVu Sans Mono": (
        *("Andale Mono", "Consolas", "Courier", "Courier New", "Liberation Mono", "Lucida Console", "Menlo"),
        *("Monaco", "Noto Sans Mono"),
    ),
    "Noto Sans CJK SC": (
        *("Arial Unicode MS", "FangSong", "Heiti SC", "KaiTi", "Microsoft YaHei", "Noto Sans SC"),
        *("PingFang SC", "SimHei", "SimSun", "Songti SC", "Source Han Sans CN", "STHeiti"),
        *("Source Han Sans SC", "STSong", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    ),
    "Noto Sans CJK TC": (
        *("Heiti TC", "Microsoft JhengHei", "MingLiU", "Noto Sans TC", "PingFang TC", "PMingLiU"),
    ),
    "Noto Sans CJK JP": (
        *("Hiragino Sans", "IPAexGothic", "IPAGothic", "Meiryo", "MS Gothic", "Noto Sans JP"),
        *("TakaoGothic", "TakaoPGothic", "Yu Gothic"),
    ),
    "Noto Sans CJK KR": (
        *("AppleGothic", "Apple SD Gothic Neo", "Malgun Gothic", "NanumBarunGothic"),
        *("NanumGothic", "Noto Sans KR"),
    ),
}
"""Names of fonts that the image lacks, by the font that takes their place."""


def main() -> None:
    """Write the cache to the folder that MPLCONFIGDIR names."""
    manager = font_manager.fontManager
    fallbacks = [font for font in manager.ttflist if font.name.startswith("Noto")]
    others = [font for font in manager.ttflist if not font.name.startswith("Noto")]
    # Weights are names and these fonts come first, so that the search finds an exact match and stops.
    every_weight = [replace(font, weight=weight) for weight in WEIGHTS for font in fallbacks]
    present = {font.name for font in manager.ttflist}
    stand_ins = [
        replace(font, name=name)
        for font in (*every_weight, *others)
        if font.weight in ("normal", "bold", 400, 700)
        for name in STAND_INS.get(font.name, ())
        if name not in present
    ]
    manager.ttflist = [*every_weight, *others, *stand_ins]
    (written,) = Path(matplotlib.get_cachedir()).glob("fontlist-*.json")
    font_manager.json_dump(manager, written)


if __name__ == "__main__":
    main()
