"""Text from a model or its file on its way to a terminal."""


def terminal_safe(text: str) -> str:
    """`text` with control characters other than newline and tab shown as symbols, so that output that nobody
    vouches for cannot move the cursor, set the title or answer in the user's name.
    """
    return text.translate(_SYMBOLS)


_SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
}
