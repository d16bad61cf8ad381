"""What the recorded cells of 121.2a measure, at a tiny size."""

import math
import sys

import cloudpickle
import pytest
import torch
import torch.nn.functional as F

from dlcourse.datasets import SCENE_WORDS, captioned_scenes
from dlcourse.large_scale_training import distributed, launch
from dlcourse.multimodal_fusion import clip_loss
from dlcourse.multimodal_fusion.experiments import clip_scene_tests, clip_scenes, clip_speed
from dlcourse.multimodal_fusion.experiments import emoji_closed_forms as closed_forms
from dlcourse.multimodal_fusion.experiments import emoji_head as heads

cloudpickle.register_pickle_by_value(sys.modules[__name__])

CPU = torch.device("cpu")
TINY = clip_scenes.Sizes(
    image=16, widths=(8, 16), text_width=16, text_depth=1, embed=8,
    bank=96, test=24, batch=16, steps=2, limit=None, rates=(1e-3, 1e-2), seeds=(0, 1),
)  # fmt: skip
SHAPE = clip_speed.Shape(
    image=16, patch=8, width=16, depth=2, heads=2, text_width=8, text_depth=2, text_heads=2,
    vocabulary=40, context=12, embed=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def bank():
    return clip_scenes.Bank(TINY, CPU)


# --- Scenes ----------------------------------------------------------------------------------


def test_the_contest_has_all_of_its_rows():
    chosen = ("CLIP", "CLIP, 63 negatives", "CLIP and swapped captions", "SigLIP", "bag of words")
    contestants = {name: clip_scenes.CONTESTANTS[name] for name in chosen}
    whole = clip_scenes.compare(TINY, CPU, contestants)
    assert whole["steps"] == 2 and set(whole["how"].values()) == {"eager"}
    found = whole["results"]
    assert set(found) == {*chosen, "pixels, ridge", "untrained"}
    for name in chosen:
        row = found[name]
        assert row["rate"] in row["tuning"] and len(row["tuning"]) == 2
        measures = [v for key, v in row.items() if key not in ("rate", "tuning", "scale", "gap")]
        assert len(measures) == 19 and all(len(v) == 2 for v in measures)
        assert all(0 <= share <= 1 for v in measures for share in v)
    assert found["bag of words"]["swapped objects"] == [0.5, 0.5]
    assert found["pixels, ridge"]["swapped objects"] == [0.5]


@pytest.mark.parametrize(
    "name", ["CLIP", "CLIP, 15 negatives", "SigLIP", "CLIP and swapped captions"]
)
def test_every_objective_learns_a_few_scenes_by_heart(name):
    sizes = clip_scenes.Sizes(
        image=16, widths=(16, 32), text_width=48, text_depth=1, embed=32,
        bank=16, batch=16, steps=100,
    )  # fmt: skip
    bank = clip_scenes.Bank(sizes, CPU)
    contestant = clip_scenes.CONTESTANTS[name]
    model = clip_scenes.train(contestant, bank, sizes, 5e-3, 0, CPU)
    score = clip_scenes.scores(model, contestant, bank.images, bank.tokens)
    assert clip_scenes.recalls(score, [1])[0][0] >= 0.5


def test_a_fixed_temperature_stays_and_a_learned_one_moves(bank):
    scale = {}
    for name in ("CLIP", "CLIP, τ = 1 fixed"):
        model = clip_scenes.train(clip_scenes.CONTESTANTS[name], bank, TINY, 1e-2, 0, CPU)
        scale[name] = model.scale().item()
    assert scale["CLIP, τ = 1 fixed"] == 1.0
    assert scale["CLIP"] != pytest.approx(1 / 0.07, rel=1e-6)


def test_siglip_begins_as_in_its_paper_and_its_loss_falls():
    contestant = clip_scenes.CONTESTANTS["SigLIP"]
    sizes = clip_scenes.replace(TINY, widths=(16, 32), text_width=48, embed=32, bank=64, steps=60)
    bank = clip_scenes.Bank(sizes, CPU)
    model = clip_scenes.scene_clip(sizes, contestant)
    assert model.logit_scale.item() == pytest.approx(math.log(10))
    assert model.logit_bias.item() == -10
    training = clip_scenes.Training(contestant, bank, sizes, 0, CPU)
    losses, step = [], training.captured.step
    training.captured.step = lambda index: losses.append(float(step(index)))
    training.run(1.5e-3)
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_limit_of_time_shortens_the_trainings_or_refuses(bank):
    sizes = clip_scenes.replace(TINY, steps=600, least=400)
    assert clip_scenes.steps_within(200.0, sizes, 54, 0.005) == 600
    assert clip_scenes.steps_within(150.0, sizes, 54, 0.005) == 470
    with pytest.raises(RuntimeError, match="400 are needed"):
        clip_scenes.steps_within(100.0, sizes, 54, 0.005)
    with pytest.raises(RuntimeError, match="are needed"):
        clip_scenes.compare(clip_scenes.replace(TINY, limit=0.0), CPU)


def test_groups_see_as_many_pairs_and_a_small_batch_more_steps(bank):
    steps = []
    sizes = clip_scenes.replace(TINY, steps=4)
    for contestant in (clip_scenes.Contestant("clip"), clip_scenes.Contestant("clip", batch=8)):
        seen = []
        clip_scenes.train(contestant, bank, sizes, 1e-3, 0, CPU, lambda m, k, s=seen: s.append(k))
        steps.append(len(seen))
    assert steps == [4, 8]


def test_the_objectives_are_those_of_the_package(bank):
    index = torch.arange(16)
    model = clip_scenes.scene_clip(TINY)
    features = model(clip_scenes.from_bytes(bank.images[index]), bank.tokens[index])
    loss = clip_scenes.loss_of(model, clip_scenes.CONTESTANTS["CLIP"], bank, index)
    torch.testing.assert_close(loss, clip_loss(*features))


def test_swapped_captions_are_negatives_only_where_they_differ():
    sizes = clip_scenes.replace(TINY, bank=400)
    bank = clip_scenes.Bank(sizes, CPU)
    same = (bank.tokens == bank.swapped).all(1)
    assert not (same & bank.differs).any()
    assert 0.5 < bank.differs.float().mean() < 0.8


def test_rates_rise_and_fall():
    rates = [clip_scenes.schedule(k, 40) for k in range(40)]
    assert rates[0] == pytest.approx(0.25) and max(rates) == pytest.approx(1, abs=0.01)
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] < 0.01


def test_recalls_count_ties_against_the_model():
    assert clip_scenes.recalls(torch.zeros(5, 5), [1, 5]) == [(0, 0), (1, 1)]
    assert clip_scenes.recalls(torch.eye(5), [1]) == [(1, 1)]


def test_an_oracle_answers_every_question():
    """Scores made from the factors themselves reach 100 %: the questions can be answered."""
    sets, prompts = clip_scene_tests.make_tests(60, 16, CPU)
    known = {}
    for scenes in sets.values():
        for image, tokens in zip(scenes.images, scenes.tokens):
            known[image.numpy().tobytes()] = tokens.tolist()

    def words(tokens):
        return [SCENE_WORDS[t - 3] for t in tokens if t > 2]

    def score(images, captions):
        rows = []
        for image in images:
            own = words(known[image.numpy().tobytes()])
            text = " ".join(own)
            rows.append(
                [
                    2.0 * (" ".join(c) == text) + float(" ".join(c[-2:]) in text)
                    for c in map(words, captions.tolist())
                ]
            )
        return torch.tensor(rows)

    found = clip_scene_tests.measure(score, sets, prompts)
    assert found["zero-shot seen"] == found["ensemble unseen"] == 1
    assert found["replaced"] == found["swapped colours"] == found["swapped objects"] == 1
    assert found["seen i2t@1"] >= 0.9 and found["unseen t2i@10"] == 1


def test_ridge_reads_a_linear_factor_from_pixels():
    scenes = captioned_scenes(600, torch.Generator().manual_seed(0), size=24, pairs=0.0, full=True)
    images = clip_scenes.to_bytes(scenes.images)
    targets = F.one_hot(scenes.factors.place, 9).float()
    score = clip_scene_tests.ridge_scores(images[:500], targets[:500], 1e-2)
    guess = score(images[500:], torch.eye(9)).argmax(1)
    assert (guess == scenes.factors.place[500:]).float().mean() > 0.6
    shuffled = targets[torch.randperm(500)]
    wrong = clip_scene_tests.ridge_scores(images[:500], shuffled, 1e-2)
    guess = wrong(images[500:], torch.eye(9)).argmax(1)
    assert (guess == scenes.factors.place[500:]).float().mean() < 0.35


# --- Speed -----------------------------------------------------------------------------------


def test_our_clip_with_open_clips_weights_gives_its_features():
    torch.manual_seed(0)
    theirs = SHAPE.open_clip().eval()
    for p in theirs.parameters():
        if p.dim():
            torch.nn.init.normal_(p, std=0.3)
    ours = clip_speed.copy_weights(theirs, SHAPE.ours()).eval()
    images, tokens = SHAPE.batch(5, CPU)
    x, y, scale = ours(images, tokens)
    expected = theirs(images, tokens)
    for a, b in zip((x, y, scale), expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_all_forms_of_a_step_begin_with_the_same_loss():
    found = clip_speed.measure_training(SHAPE, 6, CPU, repeats=1, chunk=4)
    first = list(found["first loss"].values())
    assert first == pytest.approx([first[0]] * 5, rel=1e-4)
    assert found["longest"] == 12 and all(len(t) == 1 for t in found["seconds"].values())


def test_the_loss_is_measured_at_each_size():
    found = clip_speed.measure_loss([8, 16], CPU, dim=4, chunk=4)
    assert set(found) == {"open_clip", "plain", "chunks"}
    assert all(len(rows) == 2 and all(r["seconds"] > 0 for r in rows) for rows in found.values())


def measured_on_a_rank():
    with distributed("gloo") as world:
        return clip_speed.measure_ranks(SHAPE, 4, world.device, repeats=1)


def test_two_ranks_are_compared_with_one_process():
    for found in launch(measured_on_a_rank, 2):
        assert found["difference"] < 1e-4 < 0.01 < found["local"]
        assert math.isclose(*found["loss"], rel_tol=1e-5)
        assert set(found["seconds"]) == {"alone", "gathered", "not gathered"}


# --- The head on frozen encoders -------------------------------------------------------------


def made_up(n=120, noise=0.3):
    """Concepts whose names are a linear map of both styles' pictures."""
    g = torch.Generator().manual_seed(0)
    concept = torch.randn(n, 12, generator=g)
    pictures = torch.stack([concept @ torch.randn(12, 20, generator=g) for _ in range(2)])
    pictures += noise * torch.randn(pictures.shape, generator=g)
    return heads.Emoji(pictures, F.normalize(concept @ torch.randn(12, 8, generator=g), dim=1))


def test_whitened_names_make_all_directions_count_alike():
    data = made_up()
    skewed = F.normalize(data.names * torch.tensor([20.0, 1, 1, 1, 1, 1, 1, 1]) + 5, dim=1)
    fit = torch.arange(80)
    _, whiten = closed_forms.whitened_head(data._replace(names=skewed), fit, 1.0, 1e-6)
    seen = whiten(skewed[fit])
    torch.testing.assert_close(seen.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    spread = torch.linalg.eigvalsh(seen.T.double() @ seen.double() / 80)
    assert spread[1:].min() > 0.5 and spread.max() < 1.01  # names of length 1 lose a direction


def test_ridge_to_whitened_names_is_chosen_on_validation_and_tested_once():
    data, parts = made_up(), torch.arange(120).split((80, 20, 20))
    found = closed_forms.compare_whitened(
        data, lambda seed: parts, [0, 1], strengths=[1.0], shrinkages=[0.1, 1.0]
    )
    assert len(found["chosen"]) == 2 and found["chosen"][0] == found["chosen"][1]
    assert all(runs[0][0] > 0.4 for runs in found["whitened"].values())
    shuffled = data._replace(names=data.names[torch.randperm(120)])
    wrong = closed_forms.compare_whitened(
        shuffled, lambda seed: parts, [0], strengths=[1.0], shrinkages=[0.1]
    )
    assert all(runs[0][0] < 0.3 for runs in wrong["whitened"].values())



def split(seed):
    order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
    return order[:70], order[70:90], order[90:]


def test_both_heads_find_unseen_names_and_none_finds_shuffled_ones():
    options = {"epochs": 40, "batch": 32}
    found = heads.compare_heads(made_up(), split, (0, 1), (1, 5), **options)
    for name in ("ridge", "InfoNCE"):
        assert len(found["chosen"][name]) == 2
        for style in heads.STYLES:
            values = torch.tensor(found[name][style])
            assert values.shape == (2, 2) and (values[:, 1] >= values[:, 0]).all()
            assert values[:, 1].min() > 0.4  # chance: 1/6
    data = made_up()
    shuffled = data._replace(names=data.names[torch.cat(split(9))])
    wrong = heads.compare_heads(shuffled, split, (0,), (1, 5), **options)
    assert max(wrong[n][s][0][1] for n in ("ridge", "InfoNCE") for s in heads.STYLES) < 0.35


def test_categories_are_named_by_prompts():
    data = made_up()
    train, validation, test = split(0)
    head = heads.ridge_head(data, torch.cat([train, validation]), 10.0)
    labels = ["one" if v > 0 else "two" for v in data.names[:, 0].tolist()]
    axis = torch.eye(8)[0]

    def encode(texts):
        return torch.stack([axis if "one" in text else -axis for text in texts])

    found = heads.categories(head, data, test, labels, encode)
    for values in found.values():
        assert values["all"] > 0.8 and values["least"] <= values["best"]
