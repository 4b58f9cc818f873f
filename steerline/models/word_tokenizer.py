"""A tokenizer of whole words, made from the texts that a model is trained on: the SAFR paper's.

Words are what white space separates, case is kept. Those that occur often enough in the training texts are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from steerline.config.model import WordTokenizer
from steerline.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD = "<pad>"
UNKNOWN = "<unk>"


def word_tokenizer(spec: WordTokenizer, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build the tokenizer: padding is 0, an unknown word 1, then words by falling frequency, ties in order of spelling.

    It adds no special token to a text, and has no beginning of text. The end of text, where the spec names one, is 2.

    Raises:
        ModelError: no word is frequent enough.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = [PAD, UNKNOWN] if spec.end_of_text is None else [PAD, UNKNOWN, spec.end_of_text]
    splitter = pre_tokenizers.WhitespaceSplit()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    known = sorted(
        (word for word, count in counts.items() if count >= spec.min_frequency and word not in specials),
        key=lambda word: (-counts[word], word),
    )[: spec.max_words]
    if not known:
        raise ModelError(
            "no word of the training texts is frequent enough for the tokenizer",
            where="model.source.tokenizer",
            got=f"{len(counts)} words, none of them {spec.min_frequency} times or more",
            fix="lower `min_frequency`, or train on more texts",
        )
    vocabulary = {word: index for index, word in enumerate([*specials, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=spec.end_of_text
    )
