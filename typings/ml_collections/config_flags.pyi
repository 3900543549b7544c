"""The part of ml_collections.config_flags used here."""

from typing import Any

def DEFINE_config_file(name: str, default: str | None = None, help_string: str = ...) -> Any: ...
