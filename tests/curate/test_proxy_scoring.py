"""The losses: against a loop that does one row at a time, against each other, and against vLLM."""

import json
import math
import random
import re
import shutil
import subprocess
import sys
from itertools import chain
from types import SimpleNamespace

import drawn
import pytest
import torch
from asking import nothing, run_passes, with_answers
from curricle.curate.batch import Batch
from curricle.curate.passes import CHECKPOINT_LOSSES, GENERATION, LOSS, RENDERING, UNCONDITIONAL_LOSS
from curricle.curate.proxy import attention, checks, likelihood
from curricle.curate.proxy.attention import PATTERNS, Branches, Tree
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.packing import Pack, packed, packs
from curricle.curate.proxy.rendering import Renderer
from curricle.curate.proxy.sequences import Request, SpecialTokens, conditional, unconditional
from curricle.curate.proxy.settings import GenerationSettings, ProxySettings
from curricle.curate.proxy.weights import Weights
from curricle.schemas.chat.rendering import Rendered
from hypothesis import given
from hypothesis import strategies as st
from proxy_examples import ROWS, SHORT, SINGLE, table, turns
from small_llama import write_small_llama, write_small_tokenizer
from torch.nn.attention.flex_attention import flex_attention
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, MistralConfig

TOLERANCE = 1e-5  # nats per token
SAFE = "model.safetensors"


def batch(weights, conversations, **settings):
    examples = table(conversations)
    return run_passes(Batch(examples), Renderer(weights, ProxySettings(**settings)), RENDERING)


def durations(batch, rows):
    """Some rows of a batch that is rendered, in another order."""
    rendered = RENDERING.of(batch)
    return with_answers(Batch(batch.table.take(rows)), {RENDERING: [rendered[row] for row in rows]})


def one_by_one(directory, requests):
    """Mean log p of the spans, from all logits of one row, in float64."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    means = []
    for request in requests:
        ids = torch.tensor([request.ids])
        with torch.inference_mode():
            nats = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
        scored = [nats[at - 1, request.ids[at]].item() for span in request.spans for at in range(*span)]
        means.append(sum(scored) / len(scored))
    return means


def means(scores):
    return [score.sum / score.count for score in scores]


def both(batch, backend, **options):
    return run_passes(batch, backend, LOSS, UNCONDITIONAL_LOSS, **options)


def losses(batch, backend):
    return LOSS.of(run_passes(batch, backend, LOSS))


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return Weights(tiny_model, {})


@pytest.fixture
def grouped(smollm2, tmp_path):
    """A small model in which two heads share keys and values."""
    tokenizer = write_small_tokenizer(tmp_path, smollm2.directory)
    write_small_llama(tmp_path, tokenizer, initializer_range=0.2, num_key_value_heads=2, head_dim=32)
    return Weights(tmp_path, {})


@pytest.mark.parametrize(("model", "rows"), [("tiny_model", ROWS), ("smollm2", SHORT[:3])])
def test_both_losses_equal_a_loop_over_single_rows(request, model, rows):
    result = request.getfixturevalue(model)
    weights = result if isinstance(result, Weights) else Weights(result, {})
    backend = load(ProxySettings(), weights)
    passed = []
    scored = both(batch(weights, rows), backend, on_progress=passed.append)
    for build, scores in ((conditional, LOSS.of(scored)), (unconditional, UNCONDITIONAL_LOSS.of(scored))):
        requests = [build(rendered, backend.special) for rendered in RENDERING.of(scored)]
        assert means(scores) == pytest.approx(one_by_one(weights.directory, requests), abs=TOLERANCE)
    assert [score.count for score in LOSS.of(scored)] == [score.count for score in UNCONDITIONAL_LOSS.of(scored)]
    assert sum(passed) >= sum(len(rendered.ids) for rendered in RENDERING.of(scored))


@pytest.mark.parametrize("batch_tokens", [1, 64, 300, 100_000])
def test_no_score_depends_on_the_batch_or_the_order(tiny, batch_tokens):
    examples = batch(tiny, ROWS)
    alone = losses(examples, load(ProxySettings(), tiny))
    order = random.Random(batch_tokens).sample(range(len(ROWS)), len(ROWS))
    scored = losses(durations(examples, order), load(ProxySettings(batch_tokens=batch_tokens), tiny))
    assert means(scored) == pytest.approx([means(alone)[row] for row in order], abs=TOLERANCE)


@pytest.mark.parametrize("budget", [None, 1, 5, 8])
def test_rows_in_packs_get_the_losses_of_padded_rows(tiny, budget):
    backend = load(ProxySettings(batch_tokens=budget), tiny)
    assert backend.in_packs
    ids = [(1, 2, 3, 4), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 9), (1, 2, 3, 9), (1, 2), (1, 2, 3, 4, 5, 8), (7, 1, 2, 3)]
    requests = [
        Request(row, ((index, index + 1), (len(row) - 1, len(row)))) for row in ids for index in (1, len(row) - 1)
    ]
    random.Random(0).shuffle(requests)
    together = [score.sum for score in backend.score(requests, nothing)]
    backend.in_packs = False
    assert together == pytest.approx([score.sum for score in backend.score(requests, nothing)], abs=TOLERANCE)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # as on a CPU it has to be
@pytest.mark.parametrize("budget", [None, 1, 5, 8, 40])
def test_one_kernel_for_all_rows_of_a_pack_attends_as_row_after_row(tiny, budget, monkeypatch):
    """The attention of a GPU, on a CPU: rows that share beginnings, more than a block of them, over several packs."""
    draw = random.Random(budget)
    begins = [[draw.randrange(9) for _ in range(length)] for length in (0, 3, 40, 130)]
    ids = [[*draw.choice(begins), *(draw.randrange(9) for _ in range(draw.randrange(2, 60)))] for _ in range(24)]
    ids += ids[:2]
    requests = [
        Request(row, ((index, index + 1), (len(row) - 1, len(row)))) for row in ids for index in (1, len(row) - 1)
    ]
    expected = [score.sum for score in load(ProxySettings(batch_tokens=budget), tiny).score(requests, nothing)]
    monkeypatch.setitem(PATTERNS, "cpu", Tree)
    backend = load(ProxySettings(batch_tokens=budget), tiny)
    assert backend.in_packs
    assert [score.sum for score in backend.score(requests, nothing)] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.skipif(not drawn.SOAK, reason="a compiler takes a minute")
@pytest.mark.filterwarnings("error:flex_attention called without torch.compile")
def test_the_compiled_kernel_attends_as_padded_rows(grouped, monkeypatch):
    """That of a CPU, where torch's compiler fails on code for all sizes: rows that share beginnings, in some packs."""
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 64)
    kernel = torch.compile(flex_attention, dynamic=False)
    monkeypatch.setattr(attention, "_flex_attention", lambda device: kernel)
    monkeypatch.setitem(PATTERNS, "cpu", Tree)
    backend = load(ProxySettings(), grouped)
    assert backend.in_packs
    draw = random.Random(0)
    for rows, begin, longest, budget in ((8, 30, 20, 2048), (30, 100, 60, 256), (3, 0, 200, 256), (20, 300, 9, 64)):
        shared = [draw.randrange(900) for _ in range(begin)]
        ids = [shared + [draw.randrange(900) for _ in range(draw.randrange(3, longest))] for _ in range(rows)]
        requests = [Request(row, ((begin + 1, len(row)),)) for row in ids]
        backend.in_packs, backend.batch_tokens = False, 2048
        expected = means(backend.score(requests, nothing))
        backend.in_packs, backend.batch_tokens = True, budget
        assert means(backend.score(requests, nothing)) == pytest.approx(expected, abs=TOLERANCE)


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=90), min_size=1, max_size=12),
    st.integers(1, 200),
    st.sampled_from([1, 4, 16]),
)
def test_the_tree_of_a_pack_has_the_paths_of_its_rows(drawn, budget, block):
    rows = [tuple(row) for row in drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tree, "block", block)
        for pack in packs(rows, [len(row) - 1 for row in rows], budget):
            patch.setitem(PATTERNS, "cpu", Branches)
            branches = packed(rows, pack, {}, torch.float32)
            patch.setitem(PATTERNS, "cpu", Tree)
            tree = packed(rows, pack, {}, torch.float32)
            width = tree.inputs["input_ids"].shape[1]
            mask = tree.inputs["pattern"].mask
            room = mask.seq_lengths[1] - width
            assert width % block == room % block == 0 and mask.seq_lengths[0] == width
            query, key = torch.meshgrid(torch.arange(width), torch.arange(room + width), indexing="ij")
            allowed = mask.mask_mod(None, None, query, key)
            whole, some = (_blocks(mask, name) for name in ("full_", ""))
            assert not (whole & some).any()
            whole, some = (each.repeat_interleave(block, 0).repeat_interleave(block, 1) for each in (whole, some))
            assert allowed[whole].all() and not allowed[~whole & ~some].any()
            for branch in branches.inputs["pattern"].branches:
                keys = chain.from_iterable(range(*span) for span in branch.ranges)
                path = [key if key < pack.prefix else key - pack.prefix + room for key in keys]
                for index in range(branch.start, branch.end):
                    before = len(path) - (branch.end - branch.start) + index - branch.start + 1
                    assert allowed[index].nonzero().flatten().tolist() == path[:before]
            padding = allowed[branches.inputs["input_ids"].shape[1] :]
            assert (padding.sum(1) == 1).all() and (padding.nonzero()[:, 1] >= room).all()


def test_a_pack_that_goes_on_from_another_is_tried_before_it_is_relied_on(tiny, monkeypatch):
    prefixes = []

    def packs_of_trial(*given):
        chosen = packs(*given)
        prefixes.append([pack.prefix for pack in chosen])
        return chosen

    monkeypatch.setattr(checks, "packs", packs_of_trial)
    assert load(ProxySettings(), tiny).in_packs
    assert any(map(any, prefixes)) and not all(map(any, prefixes)), "with and without keys of the pack before"


def test_where_a_gpu_has_no_code_for_packs_rows_pass_padded_and_that_is_said(caplog):
    proxy = SimpleNamespace(device=torch.device("cuda"))
    assert checks._packs_hold(proxy, lambda: 0.5, 1.0) and not checks._packs_hold(proxy, lambda: 2.0, 1.0)
    assert not caplog.text
    assert not checks._packs_hold(proxy, lambda: raise_(LookupError("no Triton")), 1.0)
    assert "rows pass padded, not in packs: their attention cannot be compiled here: no Triton" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        checks._packs_hold(proxy, lambda: raise_(torch.OutOfMemoryError()), 1.0)


def _blocks(mask, name):
    """bool (blocks of queries, blocks of keys): those that a mask lists, as ``full_`` or as others."""
    counts, indices = (getattr(mask, f"{name}kv_{what}")[0, 0] for what in ("num_blocks", "indices"))
    listed = torch.zeros(indices.shape, dtype=torch.bool)
    for row, count in enumerate(counts):
        listed[row, indices[row, :count].long()] = True
    return listed


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.integers(0, 7)), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_packs_hold_each_beginning_once_and_lead_along_every_row(drawn, budget):
    rows = [tuple(row) for row, _ in drawn]
    scored_from = [min(index, len(row) - 1) for row, index in drawn]
    in_order = packs(rows, scored_from, budget)
    assert sorted(index for pack in in_order for index in pack.rows) == list(range(len(rows)))
    assert [0, *(pack.next_prefix for pack in in_order)] == [*(pack.prefix for pack in in_order), 0]
    prefix = ()
    for pack in in_order:
        inputs, paths = packed(rows, pack, {}, torch.float32)
        ids, positions = inputs["input_ids"][0].tolist(), inputs["position_ids"][0].tolist()
        fresh = {rows[index][:end] for index in pack.rows for end in range(1, len(rows[index]) + 1)}
        fresh -= {prefix[:end] for end in range(1, len(prefix) + 1)}
        assert len(ids) == len(fresh) and (len(ids) <= budget or len(pack.rows) == 1)
        ids, positions = [*prefix, *ids], [*range(len(prefix)), *positions]
        for index, path in zip(pack.rows, paths, strict=True):
            assert tuple(ids[at + pack.prefix] for at in path) == rows[index]
            assert [positions[at + pack.prefix] for at in path] == list(range(len(path)))
            assert path[scored_from[index]] >= 0  # its hidden state is in this pack
        prefix = tuple(ids[at] for at in inputs["keep"])
        assert prefix == rows[pack.rows[-1]][: pack.next_prefix]


def test_the_example_of_the_docstring_is_what_packing_does(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2.directory)
    lines = sys.modules[Pack.__module__].__doc__.splitlines()
    table = [re.split(r" {2,}", line.strip()) for line in lines if re.match(r" {4}\d ", line)]
    rows = [tuple(map(int, ids.split())) for _, ids, *_ in table]
    assert [tuple(tokenizer(text)["input_ids"]) for _, _, text, *_ in table] == rows and len(rows) == 4
    parts = {
        name: [[int(number) for number in re.findall(r"-?\d+", part)] for part in line.split(name)[1].split("|")]
        for line in lines
        for name in ("input_ids", "position_ids", "index", "attends to")
        if line.strip().startswith(f"{name} ")
    }
    scored_from = [len(row) - 2 for row in rows]
    (pack,) = packs(rows, scored_from, 100)
    inputs, paths = packed(rows, pack, {}, torch.float32)
    assert pack == Pack([0, 1, 2, 3], 0, 0)
    assert inputs["input_ids"][0].tolist() == [*chain.from_iterable(parts["input_ids"])]
    assert inputs["position_ids"][0].tolist() == [*chain.from_iterable(parts["position_ids"])]
    for branch, indices, ranges in zip(inputs["pattern"].branches, parts["index"], parts["attends to"], strict=True):
        assert list(range(branch.start, branch.end)) == indices
        assert [end for span in branch.ranges for end in span] == ranges
    assert [path[-1] for path in paths] == [indices[-1] for indices in parts["index"]]
    assert packs(rows, scored_from, 8) == [Pack([0, 1], 0, 4), Pack([2, 3], 4, 0)]
    assert packed(rows, Pack([0, 1], 0, 4), {}, torch.float32).inputs["keep"].tolist() == [0, 1, 5, 6]


@pytest.mark.parametrize("bias", [False, True])
def test_log_p_over_parts_of_the_vocabulary(monkeypatch, bias):
    monkeypatch.setitem(likelihood.LOGIT_BYTES, "cpu", 1)
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(16, 1000, bias)
    hidden, targets = torch.randn(40, 16, generator=generator), torch.randint(1000, (40,), generator=generator)
    with torch.inference_mode():
        logits = head(hidden)
        expected = torch.log_softmax(logits.double(), 1).gather(1, targets[:, None])[:, 0]
        for result in likelihood.log_p(hidden, head, targets), likelihood.log_p_of_logits(logits, targets):
            assert (result - expected).abs().max() < 1e-6


def of_another_kind(tiny, path, config, **options) -> Weights:
    """A small random model of another architecture, with the same tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.directory)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    result = config(vocab_size=len(tokenizer), **sizes, **heads, initializer_range=0.5, **options)
    AutoModelForCausalLM.from_config(result).save_pretrained(path)
    return Weights(path, {})


def test_a_model_that_looks_back_less_far_than_rows_are_long_gets_padded_rows(tiny, tmp_path):
    weights = of_another_kind(tiny, tmp_path, MistralConfig, sliding_window=16)
    backend = load(ProxySettings(), weights)
    assert not backend.in_packs
    scored = run_passes(batch(weights, SHORT[:4]), backend, LOSS)
    requests = [conditional(rendered, backend.special) for rendered in RENDERING.of(scored)]
    assert means(LOSS.of(scored)) == pytest.approx(one_by_one(tmp_path, requests), abs=TOLERANCE)


def test_the_unconditional_request_is_header_and_response_of_each_turn(tiny):
    special = load(ProxySettings(), tiny).special
    (chat,) = RENDERING.of(batch(tiny, [SHORT[1]]))
    (h1, h2), (s1, s2) = chat.headers, chat.spans
    built = unconditional(chat, special)
    assert tuple(built.ids) == (*chat.ids[h1[0] : s1[1]], *chat.ids[h2[0] : s2[1]])  # no second <|im_start|> in front
    assert [built.ids[start:end] for start, end in built.spans] == [
        list(chat.ids[start:end]) for start, end in chat.spans
    ]
    (alpaca,) = RENDERING.of(batch(tiny, [SINGLE], template="alpaca"))
    start = alpaca.headers[0][0]
    assert tuple(unconditional(alpaca, special).ids) == alpaca.ids[start:]
    with_bos = unconditional(alpaca, SpecialTokens(bos=alpaca.ids[0], eos=None))
    assert tuple(with_bos.ids) == (alpaca.ids[0], *alpaca.ids[start:])


def test_a_response_that_nothing_precedes_follows_bos_or_eos_or_is_null(tiny):
    bare = Rendered((5, 6), ((0, 2),), ((0, 0),), 0, 2, False)
    for build in conditional, unconditional:
        assert build(bare, SpecialTokens(1, 2)).ids == [1, 5, 6]
        assert build(bare, SpecialTokens(None, 2)).ids == [2, 5, 6]
        assert build(bare, SpecialTokens(None, None)) is None


def test_rows_without_a_response_token_are_null_and_say_why(tiny):
    rows = [SINGLE, turns("user: Q", "assistant: "), turns("user: " + "long " * 100, "assistant: A")]
    scored = both(batch(tiny, rows, max_length=90), load(ProxySettings(), tiny))
    for scores in LOSS.of(scored), UNCONDITIONAL_LOSS.of(scored):
        assert scores[0].note is None and math.isfinite(scores[0].sum)
        assert [(score.sum, score.count) for score in scores[1:]] == [(None, None)] * 2
        assert scores[1].note == "the response is empty"
        assert "maximum length of 90 tokens" in scores[2].note


def test_logits_that_are_not_finite_are_null_with_a_note(tiny):
    backend = load(ProxySettings(), tiny)
    broken = batch(tiny, [SINGLE, SHORT[4]])
    first, second = RENDERING.of(broken)
    ids = set(second.ids) - set(first.ids)
    with torch.no_grad():
        backend.model.get_input_embeddings().weight[list(ids)] = math.nan
        backend.model.lm_head.weight = torch.nn.Parameter(backend.model.lm_head.weight.clone().nan_to_num())
    fine, bad = losses(broken, backend)  # which begin alike, and go through the model together
    assert bad.sum is None and "nan" in bad.note
    assert fine == losses(batch(tiny, [SINGLE]), backend)[0] and math.isfinite(fine.sum)


@pytest.mark.parametrize("in_packs", [True, False])  # as on a CPU, and as on a GPU
@pytest.mark.parametrize("refuse", [lambda: torch.empty(1 << 44), lambda: raise_(torch.OutOfMemoryError())])
def test_what_does_not_fit_into_memory_is_tried_in_halves(in_packs, refuse, tiny, monkeypatch, caplog):
    """The kernel really refuses 64 TiB to torch; of a GPU there is the error alone."""
    examples = batch(tiny, ROWS)
    backend = load(ProxySettings(batch_tokens=4096), tiny)
    monkeypatch.setattr(backend, "in_packs", in_packs)
    expected = losses(examples, backend)
    longest = max(len(rendered.ids) for rendered in RENDERING.of(examples))
    roomy = backend.nats

    def cramped(requests, layout):
        if layout.inputs["input_ids"].numel() >= longest:
            refuse()
        return roomy(requests, layout)

    monkeypatch.setattr(backend, "nats", cramped)
    for before, after in zip(expected, losses(examples, backend), strict=True):
        if after.note is None:
            assert after.sum / after.count == pytest.approx(before.sum / before.count, abs=TOLERANCE)
        else:
            assert after.note == f"out of memory for {longest} tokens"
    assert "out of memory with " in caplog.text and "--proxy.batch-tokens" in caplog.text


def raise_(error):
    raise error


def test_a_model_that_caps_its_logits_is_scored_by_its_own_head(tiny, tmp_path):
    weights = of_another_kind(tiny, tmp_path, Gemma2Config, head_dim=16, final_logit_softcapping=2.0)
    backend = load(ProxySettings(), weights)
    scored = run_passes(batch(weights, SHORT[:4]), backend, LOSS)
    requests = [conditional(rendered, backend.special) for rendered in RENDERING.of(scored)]
    assert means(LOSS.of(scored)) == pytest.approx(one_by_one(tmp_path, requests), abs=TOLERANCE)


def test_vllm_agrees_with_transformers(smollm2, vllm_engine):
    examples = batch(smollm2, drawn.some("rows for vLLM", ROWS, 8), max_length=256)
    expected = both(examples, load(ProxySettings(), smollm2))
    scored = both(examples, vllm_engine)
    for each in LOSS, UNCONDITIONAL_LOSS:
        assert means(each.of(scored)) == pytest.approx(means(each.of(expected)), abs=1e-4)
        assert [score.count for score in each.of(scored)] == [score.count for score in each.of(expected)]


IN_TWO_PARTS = """
import json, sys
from pathlib import Path
from curricle.curate.proxy.backend import load
from curricle.curate.proxy.sequences import Request
from curricle.curate.proxy.settings import ProxySettings
from curricle.curate.proxy.weights import Weights

settings = ProxySettings(backend="vllm", tensor_parallel=2, max_length=256)
backend = load(settings, Weights(Path(sys.argv[1]), {}))
requests = [Request(ids, ((1, len(ids)),)) for ids in json.loads(sys.argv[2])]
scores = backend.score(requests, lambda tokens: None)
parts = len(backend.llm.collective_rpc("check_health"))
print(json.dumps([parts, [each.sum / each.count for each in scores]]))
"""


@pytest.mark.skipif(not drawn.SOAK, reason="vLLM takes minutes to start")
def test_vllm_with_a_model_in_two_parts_agrees_with_transformers(grouped):
    """Two processes of a CPU, instead of two GPUs."""
    pytest.importorskip("vllm")
    draw = random.Random(0)
    ids = [[draw.randrange(900) for _ in range(length)] for length in (5, 40, 90)]
    requests = [Request(row, ((1, len(row)),)) for row in ids]
    expected = means(load(ProxySettings(), grouped).score(requests, nothing))
    command = [sys.executable, "-P", "-c", IN_TWO_PARTS, str(grouped.directory), json.dumps(ids)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts, scores = json.loads(done.stdout.splitlines()[-1])
    assert parts == 2 and scores == pytest.approx(expected, abs=TOLERANCE)


def test_vllm_answers_as_transformers_does_and_by_itself(smollm2, vllm_engine, monkeypatch):
    """The likeliest tokens are the same; draws are vLLM's own, and depend on the example alone."""
    examples = batch(smollm2, SHORT[:5], max_length=256)
    backend = load(ProxySettings(), smollm2)

    def answers(examples, engine, temperature):
        monkeypatch.setattr(engine.speech, "settings", GenerationSettings(8, temperature))
        return [each.text for each in GENERATION.ask(examples, engine, nothing)]

    assert answers(examples, vllm_engine, 0.0) == answers(examples, backend, 0.0)
    drawn = answers(examples, vllm_engine, 1.0)
    order = [3, 0, 4]
    assert answers(durations(examples, order), vllm_engine, 1.0) == [drawn[row] for row in order]


def other_weights(weights, directory, seed=0):
    """The same model after some training, for all that a backend can tell."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(weights.directory, directory)
    torch.manual_seed(seed)
    changed = {name: tensor * (1 + 0.05 * torch.randn(1)) for name, tensor in load_file(directory / SAFE).items()}
    save_file(changed, directory / SAFE, {"format": "pt"})
    return Weights(directory, {"seed": seed})


def under_checkpoints(examples, backend, checkpoints, monkeypatch):
    """The losses under each, and the proxy's own, before and after."""
    monkeypatch.setattr(backend, "checkpoints", checkpoints)
    before = run_passes(examples, backend, LOSS)
    result = list(map(means, CHECKPOINT_LOSSES.ask(before, backend, nothing)))
    return result, means(LOSS.of(before)), means(losses(examples, backend))


def test_weights_of_checkpoints_follow_each_other(tiny, tmp_path, monkeypatch):
    """Each says what it says when it is loaded alone, and the first one is found again, whatever happens."""
    examples, other = batch(tiny, SHORT), other_weights(tiny, tmp_path / "other")
    backend = load(ProxySettings(), tiny)
    (first, second, third), before, after = under_checkpoints(examples, backend, [other, tiny], monkeypatch)
    assert first == third == before == after
    assert second == means(losses(examples, load(ProxySettings(), other)))
    assert second != pytest.approx(first, abs=1e-3)
    lost = Weights(tmp_path / "lost", {"seed": None})
    with pytest.raises(OSError):
        under_checkpoints(examples, backend, [other, lost], monkeypatch)
    assert means(losses(examples, backend)) == before


def test_vllm_takes_the_weights_of_another_checkpoint(smollm2, vllm_engine, tmp_path, monkeypatch):
    examples, other = batch(smollm2, SHORT[:3], max_length=256), other_weights(smollm2, tmp_path / "other")
    (first, second, third), before, after = under_checkpoints(examples, vllm_engine, [other, smollm2], monkeypatch)
    assert before == first and third == after == pytest.approx(first, abs=1e-6)
    assert second == pytest.approx(means(losses(examples, load(ProxySettings(), other))), abs=1e-4)
    assert second != pytest.approx(first, abs=1e-2)
