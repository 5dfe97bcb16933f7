import numpy as np
import torch

from duodiff_pipeline.metrics.classifier import ClassifierConfig, accuracy, train_classifier
from duodiff_pipeline.metrics.quarter_turns import QuarterTurns

IMAGES = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_image_stands_in_its_four_turns():
    turns = QuarterTurns(IMAGES)
    assert len(turns) == len(turns.labels) == 20
    for i in range(5):
        for t in range(4):
            expected = np.rot90(IMAGES[i].numpy(), t, axes=(1, 2))
            assert np.array_equal(turns[np.array([4 * i + t])][0], expected)
            assert turns.labels[4 * i + t] == t


def test_a_part_is_what_it_is_in_the_whole_and_the_images_stay_as_they_are():
    before = IMAGES.clone()
    turns = QuarterTurns(IMAGES)
    whole = turns[:]
    assert torch.equal(turns[3:11], whole[3:11])
    assert torch.equal(turns[np.array([19, 0, 19])], whole[[19, 0, 19]])
    assert torch.equal(IMAGES, before)


def test_turns_of_digits_are_learnt(digits):
    train, held_out = QuarterTurns(digits.train), QuarterTurns(digits.held_out)
    config = ClassifierConfig(channels=1, image_size=8, classes=4, learns="quarter_turns")
    classifier = train_classifier(train, train.labels, config, 200, 64, 2e-3, seed=0)
    assert classifier.name == "turn_classifier_1x8x8_64"
    assert accuracy(classifier, held_out, held_out.labels, batch_images=256) > 0.85
