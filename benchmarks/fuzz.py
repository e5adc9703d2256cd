"""The readers of files that come from elsewhere, and what each may do with any bytes.

In: a reader's name and bytes. Out: whether it took them; all it may do else is one clear line.
Fed by tests/test_fuzz.py for seconds and by fuzz_long.py for minutes.
"""

from collections.abc import Callable
from pathlib import Path

from tinymemorylm.config import load_recipe, preset
from tinymemorylm.corpus import BadInput
from tinymemorylm.corpus.chat import read_chat
from tinymemorylm.corpus.local import read_local
from tinymemorylm.errors import InputError
from tinymemorylm.lab.ablation import read_ablation
from tinymemorylm.model_directory import read_architecture, read_log_boost, write_config
from tinymemorylm.tensor_files import load_tensors, tensor_bytes
from tinymemorylm.tokenizer import Tokenizer, train_tokenizer

TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 3
TOML = """
preset = "smoke"
seed = 3
data = ["storyworld:1:40KB"]
[architecture]
n_kv_heads = 1
mtp_horizons = [2, 3]
[pretrain]
tokens = 2048
sequence_length = 128
learning_rate = 4e-3
optimizer = "muon"
boost_anneal = 0.5
[sft]
sequence_length = 128
"""
ABLATION = """
base = "smoke"
seeds = [0, 1]
eval_texts = ["x.txt"]
[common]
spell_share = 0.0
[arms.low.pretrain]
learning_rate = 1e-3
[arms.high]
tokenizer = "bpe"
"""
CHATS = """{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
{"prompt": "a", "response": "b"}
{"instruction": "a", "input": "", "output": "b"}
"""


def config_json(folder: Path) -> bytes:
    write_config(folder, preset("smoke"), {"logit_adjustment": {"pretrain": 3.0}})
    return (folder / "config.json").read_bytes()


def tensors(_: Path) -> bytes:
    import torch

    return tensor_bytes({"model": {"w": torch.ones(2, 3)}, "format": 1, "n": [1.5, None, "x"]})


def tokenizer_json(folder: Path) -> bytes:
    train_tokenizer([TEXT], 270).save(folder / "tokenizer.json")
    return (folder / "tokenizer.json").read_bytes()


def read_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer.load(path)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def read_config_json(path: Path) -> None:
    config = read_architecture(path.parent)
    assert config.n_parameters <= 100_000_000
    (path.parent / "pretrain.pt").touch()
    read_log_boost(path.parent, TOKENIZER)


TOKENIZER = train_tokenizer([TEXT], 270)
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], bytes]]] = {
    "weights": ("model.pt", load_tensors, tensors),
    "config": ("config.json", read_config_json, config_json),
    "tokenizer": ("tokenizer.json", read_tokenizer, tokenizer_json),
    "lines": (
        "lines.jsonl",
        lambda path: [*read_local(str(path), bad=BadInput())],
        lambda _: b'{"text": "a cat"}\n{"text": "\\u00e9 \\ud83d\\ude00"}\n',
    ),
    "chats": (
        "chats.jsonl",
        lambda path: [*read_chat(str(path), bad=BadInput())],
        lambda _: CHATS.encode(),
    ),
    "recipe": ("mine.toml", load_recipe, lambda _: TOML.encode()),
    "ablation": ("mine.toml", read_ablation, lambda _: ABLATION.encode()),
}
"""By name: what the file is called, what reads it, and a good one to begin from."""


def feed(name: str, content: bytes, folder: Path) -> bool:
    """Whether the reader took it. Anything raised but an InputError of one line is a fault."""
    file, read, _ = READERS[name]
    (folder / file).write_bytes(content)
    try:
        read(folder / file)
    except InputError as error:
        message = str(error)
        if "\n" in message or len(message) > len(str(folder)) * 3 + 400:
            raise RuntimeError(f"not one clear line: {message[:2000]!r}") from None
        return False
    return True
