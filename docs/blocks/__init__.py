"""Every block of the pages, by name."""

from collections.abc import Callable

from blocks import accuracy, architecture, cards, cost, data, real, reliability, speed, tasks
from blocks.common import Results

BLOCKS: dict[str, Callable[[Results], str]] = {
    block.__name__: block
    for block in (
        data.events_speed, data.simulator_speed, data.simulator_speed_wide, data.noise_calibration, data.domain_gap,
        data.roads_statistics, data.roads_scenes, data.real_recordings,
        accuracy.small_scores, accuracy.small_classes, accuracy.shipped, accuracy.gpu_training, accuracy.real_clip,
        accuracy.protocols, accuracy.presets,
        accuracy.recipe, accuracy.augmentation, accuracy.zoo, accuracy.zoo_classifiers,
        accuracy.ann_ratio, accuracy.tracking, accuracy.smoothing, accuracy.more_scenes, accuracy.float32,
        accuracy.stateful_accuracy,
        cards.cards, accuracy.own_classes, accuracy.toy_gestures, accuracy.own_recording, accuracy.scale,
        *map(accuracy.study_block, accuracy.STUDIES), accuracy.study_boxes, accuracy.averaging,
        cost.nano_energy, cost.memory_energy, cost.integer_weights, cost.one_step, cost.gpu_joules, cost.nano_sparse,
        cost.counting, cost.firing_rate_study, cost.published_energy, cost.export_formats, cost.stream_soak,
        speed.speed_summary, speed.bench_race, speed.bench_steps, speed.bench_alone, speed.bench_rates,
        speed.training_speed, speed.training_speed_paper, speed.training_speed_ilif, speed.training_loading,
        speed.training_loading_sequences, speed.training_sequences, speed.memory_speed, speed.by_time,
        speed.gpu_speed, speed.precision_accuracy, speed.cost_by_size,
        reliability.robustness, reliability.fuzz, reliability.kill_test, reliability.scaling,
        reliability.worker_memory, architecture.walks, real.real_suite, real.real_misses,
        real.partial_windows, real.wide_scores, real.score_fit, real.augmentations, real.parked, real.real_fine_tune,
        tasks.tasks_answer, tasks.tasks_boxes3d, tasks.tasks_pose, tasks.tasks_sides, tasks.tasks_longer,
        tasks.tasks_scenes, tasks.ncars_answer, tasks.ncars_scores, tasks.frames_answer, tasks.frames_scores,
    )
}  # fmt: skip
