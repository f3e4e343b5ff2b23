"""Check params.yaml and run nothing: `python -m tools.params`."""

from __future__ import annotations

from stages.program.params import load_params
from stages.program.running import run


def main() -> None:
    """Print the strategy that params.yaml chooses, or fail with what is wrong with it."""
    print(f"params.yaml can be used; strategy is {load_params().strategy}")


if __name__ == "__main__":
    run(main)
