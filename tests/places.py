"""Where things are, for tests in any folder."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SAMPLES = ROOT / "bab" / "plugins" / "datasets" / "samples"  # of the shipped corpora
REAL = ROOT.parent / "shared" / "data"  # recordings for development; not part of the project
