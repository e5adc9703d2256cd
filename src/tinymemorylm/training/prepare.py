"""From a recipe's sources to a tokenizer and token streams in the run directory.

In: a recipe and where its run lives. Out: `tokenizer.json`, `shards/`, `recipe.json`, and
`prepared.json`, written last, with the counts and digests of what was read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinymemorylm.config import Recipe
from tinymemorylm.corpus import (
    BadInput,
    read_conversations,
    read_documents,
    source_digest,
    total_bytes_hint,
)
from tinymemorylm.corpus.hub import parse_hub
from tinymemorylm.errors import InputError
from tinymemorylm.files import file_sha256, read_json, write_json
from tinymemorylm.packing import pack_conversations, pack_documents
from tinymemorylm.progress import watched
from tinymemorylm.tokenizer import Message, Tokenizer, train_tokenizer
from tinymemorylm.training.changes import written
from tinymemorylm.validation import from_mapping


def documents(recipe: Recipe, bad: BadInput, title: str) -> Iterator[str]:
    """The recipe's texts, with progress."""
    texts = read_documents(recipe.data, document_separator=recipe.document_separator, bad=bad)
    return watched(title, texts, lambda t: len(t.encode()), total_bytes_hint(recipe.data))


def conversations(recipe: Recipe, bad: BadInput, title: str) -> Iterator[list[Message]]:
    """The recipe's conversations, with progress."""
    chats = read_conversations(recipe.chat_data, bad=bad)
    hint = total_bytes_hint(recipe.chat_data)
    return watched(title, chats, lambda c: sum(len(m.content.encode()) for m in c), hint)


def tokenizer_texts(recipe: Recipe, bad: BadInput) -> Iterator[str]:
    """What a tokenizer is built on: the recipe's texts and the contents of its conversations."""
    yield from documents(recipe, bad, "tokenizer: texts")
    if recipe.chat_data:
        for chat in conversations(recipe, bad, "tokenizer: conversations"):
            for message in chat:
                yield message.content


def texts_of_run(run: Path) -> Iterator[str]:
    """What a run was trained on: its recipe's texts and conversations, with progress.

    Raises InputError if they aren't at hand: no recipe, a file is gone, or it stands on the hub.
    """
    path = run / "recipe.json"
    if not path.exists():
        raise InputError(f"{path}: no such file")
    recipe = from_mapping(Recipe, read_json(path), str(path))
    if far := [source for source in (*recipe.data, *recipe.chat_data) if parse_hub(source)]:
        raise InputError(f"{far[0]} is a data set of the hub")
    yield from documents(recipe, BadInput(skip=True), "words of the training texts")
    for chat in conversations(recipe, BadInput(skip=True), "words of the conversations"):
        yield from (message.content for message in chat)


def check_sources(recipe: Recipe) -> None:
    """Raises InputError if a phase that is to run has nothing to read."""
    if recipe.pretrain.tokens and not recipe.data:
        raise InputError(f"recipe {recipe.name} names no data; give --data PATH...")
    if recipe.sft.tokens and not recipe.chat_data:
        raise InputError(
            f"recipe {recipe.name} names no conversations; give --chat-data PATH..., "
            "or --sft.tokens 0 to only pretrain"
        )


def prepare(
    recipe: Recipe, run: Path, phases: Sequence[str], tokenizer: Tokenizer | None, skip_bad: bool
) -> tuple[Tokenizer, dict[str, Any]]:
    """Tokenizer and streams for `phases`; what an earlier call finished is used again.

    tokenizer: the one to use, or None to build one. Raises InputError for unusable data, or if
    the streams were made with another tokenizer than the one to use.
    """
    done = run / "prepared.json"
    if done.exists():
        if tokenizer is None:
            tokenizer = Tokenizer.load(run / "tokenizer.json")
        elif file_sha256(run / "tokenizer.json") != tokenizer.sha256:
            raise InputError(f"{run} was begun with another tokenizer; name another --out")
        return tokenizer, read_json(done)
    check_sources(recipe)
    if tokenizer is None:
        texts = tokenizer_texts(recipe, BadInput(skip=skip_bad))
        tokenizer = train_tokenizer(texts, recipe.vocab_size)
    bad = BadInput(skip=skip_bad)  # counts each bad piece once: in the pass that packs it
    tokenizer.save(run / "tokenizer.json")
    counts: dict[str, Any] = {"sources": source_digest([*recipe.data, *recipe.chat_data])}
    settings: dict[str, Any] = {
        "validation_share": recipe.validation_share,
        "spell_share": recipe.spell_share,
        "seed": recipe.seed,
    }
    if "pretrain" in phases:
        n_documents = sum(1 for _ in documents(recipe, BadInput(skip=skip_bad), "counting texts"))
        counts["pretrain"] = pack_documents(
            documents(recipe, bad, "packing texts"),
            tokenizer,
            run / "shards" / "pretrain",
            n_documents=n_documents,
            **settings,
        )
    if "sft" in phases:
        chats = list(conversations(recipe, bad, "reading conversations"))
        counts["sft"] = pack_conversations(
            chats, tokenizer, run / "shards" / "sft", n_conversations=len(chats), **settings
        )
    bad.log_skipped()
    if bad.count:
        counts["skipped"] = bad.count
    write_json(run / "recipe.json", written(recipe))
    write_json(done, counts)
    return tokenizer, counts


def packed_digests(run: Path, phases: Sequence[str]) -> dict[str, str]:
    """What tells one packed text from another: the digest of each index, which has its shards'."""
    names = [f"{phase}/{split}" for phase in phases for split in ("train", "validation")]
    return {name: file_sha256(run / "shards" / f"{name}.json") for name in names}
