"""A tiny random model of every causal architecture that transformers can build from a config alone."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 128
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "is_decoder": True,
    "layer_types": None,
    "sliding_window": 16,
    "attention_chunk_size": 16,
    "attention_window_size": 16,
    "rope_theta": 10000.0,
}

# fmt: off
LATENT = {
    "head_dim": 8, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "qk_head_dim": 16, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4,
}  # fmt: skip
SPARSE = {**LATENT, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 8}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
ENCODER = {"pad_token_id": 0}
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ["axk1", "axk2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "longcat_flash", "minicpm3", "youtu"], LATENT
    ),
    **dict.fromkeys(["deepseek_v32", "glm_moe_dsa"], SPARSE),
    **dict.fromkeys(
        [
            "camembert",
            "data2vec-text",
            "roberta",
            "roberta-prelayernorm",
            "xlm",
            "xlm-roberta",
            "xlm-roberta-xl",
            "prophetnet",
            "modernbert-decoder",
        ],
        ENCODER,
    ),
    "bamba": {**MAMBA, "layer_types": ..., "attn_layer_indices": [1]},
    "falcon_h1": {**MAMBA, "layer_types": ..., "mamba_d_ssm": 64},
    "granitemoehybrid": {**MAMBA, "layer_types": ["mamba", "attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8, "chunk_size": 8},
    "nemotron_h": {
        "layer_types": ...,
        "num_hidden_layers": ...,
        "layers_block_type": ["mamba", "attention"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "ssm_state_size": 8,
        "chunk_size": 8,
    },
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "dots1": {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "activation_sparsity_pattern": [0.0, 0.0],
        "laurel_rank": 8,
    },
    "gemma4_text": {
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "global_head_dim": 8,
        "num_kv_shared_layers": 0,
    },
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "dbrx": {
        "rope_theta": ...,
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 48},
        "attn_config": {"kv_n_heads": 2},
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "granite": {"logits_scaling": 8.0},
    "falcon": {"alibi": True},
    "recurrent_gemma": {"lru_width": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "zamba": {
        "layer_types": ...,
        "layers_block_type": ["mamba", "hybrid"],
        "attention_head_dim": 16,
        "mamba_d_state": 8,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "layer_types": ...,
        "layers_block_type": ["mamba", "hybrid"],
        "attention_head_dim": 16,
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "num_mem_blocks": 1,
    },
    "reformer": {
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [16, 32],
        "attn_layers": ["local", "local"],
        "attention_head_size": 8,
        "local_attn_chunk_length": 8,
        "feed_forward_size": 48,
        "pad_token_id": 0,
    },
    "plbart": {"decoder_attention_heads": 4, "encoder_attention_heads": 4, "encoder_layers": 1, "decoder_layers": 2},
    "whisper": {"decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_layers": 2, "pad_token_id": 0},
    "xlnet": {"d_head": 8},
    "zaya": {"num_experts_per_tok": 1},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "xmod": {"default_language": "en_XX", "pad_token_id": 0},
}


# fmt: on

COMPOSITE = {
    "blt", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_assistant", "gemma4_unified",
    "gemma4_unified_assistant", "git", "got_ocr2", "llama4", "mllama", "musicgen", "musicgen_melody",
    "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "whisper",
}  # fmt: skip
"""With a picture tower, an encoder or another model beside the text model, which mostly has a kind of its own."""
UNBUILT = {"cohere_compass_text", "dbrx", "zamba"}
"""Whose config classes do not take the sizes of a tiny model by themselves."""
KINDS = [kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if kind not in COMPOSITE | UNBUILT]


def tiny_config(kind: str, **more: Any) -> PreTrainedConfig:
    """The smallest config of this kind that still has what makes it special; ``more`` overrides."""
    result = CONFIG_MAPPING[kind]
    default = result()
    computed = {name for name in dir(result) if isinstance(getattr(result, name), property)}
    sizes = {
        name: value for name, value in SIZES.items() if name in {*vars(default), *default.attribute_map} - computed
    }
    for alias, name in default.attribute_map.items():
        if alias in sizes and name in sizes:
            del sizes[alias]
    chosen = {**sizes, **SPECIAL.get(kind, {}), **more}
    return result(**{name: value for name, value in chosen.items() if value is not ...})


def tiny_model(kind: str, **more: Any) -> PreTrainedModel:
    """A model with weights so large that whatever reaches a token shows in its loss."""
    return _tiny(AutoModelForCausalLM, tiny_config(kind, **more))


def tiny_encoder(kind: str) -> PreTrainedModel:
    """The body of such a model, or an encoder: its output is the last hidden state."""
    return _tiny(AutoModel, tiny_config(kind))


def _tiny(result: Any, config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = result.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model.eval()


def write_tokenizer(directory: Path) -> None:
    """A tokenizer of as many words as the models know, for what asks for one."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{index}": index for index in range(3, VOCABULARY)}}
    result = Tokenizer(WordLevel(words, "<unk>"))
    result.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=result, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(directory)
