def FormatCode(text: str, **options) -> tuple[str, bool]:
    return text, False
