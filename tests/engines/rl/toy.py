"""A model, tokenizer and prompts small enough to train in a second: name the letters after those shown, in order."""

from __future__ import annotations

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, set_seed

from c2s.engines.rl.problem import Problem

LETTERS = [chr(ord("a") + i) for i in range(12)]


def tokenizer():
    words = Tokenizer(
        models.WordLevel({"<pad>": 0, "<end>": 1, "?": 2, **{w: i + 3 for i, w in enumerate(LETTERS)}}, "?")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", padding_side="left")


def model(seed: int = 0):
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=15, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def learned_positions():
    """Return a GPT-2, which learns where a token stands."""
    set_seed(0)
    config = GPT2Config(
        vocab_size=15, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def prompts(n: int = 16):
    return Dataset.from_list(
        [{"prompt": " ".join(LETTERS[i % 9 : i % 9 + 1 + i % 3]), "start": i % 9} for i in range(n)]
    )


def problem(**more):
    """A problem over these prompts; held-out ones hold letters that no other prompt begins with."""
    held_out = Dataset.from_list([{"prompt": " ".join(LETTERS[9 : 9 + n]), "start": 9} for n in (1, 2, 3)])
    told = {"prompts": prompts(), "held_out": held_out, **more}
    return Problem(model, tokenizer(), **told)
