"""PyTorch's compiler, which takes a second to import, is not imported to train; whoever asks for it gets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.project import ROOT, takes_long
from tests.small_run import ONCE, run

CODE = f"""if True:
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    from pathlib import Path
    from stages import train

    def trained():
        train.main()
        return {{path: path.read_bytes() for name in ("data/model", "metrics/train")
                for path in Path(name).rglob("*") if path.is_file()}}

    without = trained()
    assert "torch._dynamo" not in sys.modules

    import torch
    from stages.training.compiler import StandIn, without_compiler
    with without_compiler():
        optimiser = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
        optimiser.step()
        stand_in = torch._dynamo
        assert isinstance(stand_in, StandIn) and not hasattr(stand_in, "__file__")
        import torch._dynamo.utils
        compiler = sys.modules["torch._dynamo"]
        assert torch._dynamo is compiler is not stand_in and stand_in.config is compiler.config
        optimiser.step()
    assert torch._dynamo is sys.modules["torch._dynamo"] is compiler
    assert trained() == without
"""


@takes_long
def test_training_does_without_it_and_gives_the_same_bytes(drawn_images: Path) -> None:
    run("partial", ONCE | {"freeze": "layer11", "solver": "adamw"}, "mobilenet_v3_small")
    subprocess.run([sys.executable, "-c", CODE], cwd=drawn_images, check=True)
