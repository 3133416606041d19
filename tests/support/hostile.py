"""Names and messages from elsewhere that a terminal or a log would obey."""

HOSTILE = {
    "a colour": "\x1b[95m",
    "a title of the window": "\x1b]0;gone\x07",
    "a line": "\n2026-11-23 [info] all is well",
    "a return": "\rall is well",
    "a line of Unicode": "\u2028all is well",
    "a paragraph of Unicode": "\u2029",
    "a next line": "\x85",
    "a command in eight bits": "\x9b31m",
    "turned writing": "\u202egnp.exe",
    "isolated turned writing": "\u2067\u2066",
    "nothing": "\x00",
    "a bell": "\x07",
    "backspaces": "\x08\x08\x08",
    "rubbed out": "\x7f",
    "no width": "\u200b\ufeff",
    "a tag of Unicode": "\U000e0041",
    "half a letter": "\ud800",
}
WHOLE = "".join(text for text in HOSTILE.values() if text != "\ud800")  # which no registry can say in UTF-8


def plain(text: str) -> bool:
    """Whether all of it prints, line ends aside."""
    return text.replace("\n", "").isprintable()
