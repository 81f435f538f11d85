"""`residency check`: every mistake at once, then one plan. Needs neither torch nor Ray."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from residency.platform.errors import DataError, ModelError, RecipeError, ResidencyError, StorageError
from residency.platform.memory_plan import RolePlan, StorePlan, plan_memory, plan_store
from residency.platform.node_types import Demand, NodeType, capacity_errors, demands_of, most_seats, node_types_of
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe
from residency.platform.records import AnswerKind
from residency.platform.verifiers.custom import why_not_found

LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What stops the run (``mistakes``), what cannot be seen from here (``notes``), and the plan of roles.

    ``demands`` is what all roles seat together, ``node_types`` what there could ever be (None where nothing tells).
    """

    mistakes: tuple[ResidencyError, ...]
    notes: tuple[str, ...]
    roles: tuple[RolePlan, ...]
    demands: tuple[Demand, ...]
    node_types: tuple[NodeType, ...] | None
    store: StorePlan | None


def check_model(model: str) -> list[ResidencyError]:
    """Mistakes of a model folder that can be seen without loading it."""
    folder = Path(model)
    mistakes: list[ResidencyError] = []
    if not (folder / "config.json").is_file():
        mistakes.append(ModelError(f"{folder} has no config.json", "a Hugging Face model folder"))
    if not any(folder.glob("*.safetensors")):
        mistakes.append(ModelError(f"{folder} has no *.safetensors", "weights in safetensors", "convert the weights"))
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        mistakes.append(ModelError(f"{folder} has no tokenizer", "tokenizer.json", "copy the tokenizer's files there"))
    templates = [folder / "chat_template.jinja", folder / "chat_template.json"]
    config = folder / "tokenizer_config.json"
    inside = config.is_file() and '"chat_template"' in config.read_text()
    if not inside and not any(template.is_file() for template in templates):
        mistakes.append(
            ModelError(
                f"{folder} has no chat template",
                "chat_template.jinja, or chat_template in tokenizer_config.json",
                "take the instruct version of the model, or copy the template of its family there",
            )
        )
    return mistakes


def check_data(recipe: Recipe) -> list[ResidencyError]:
    """Mistakes of the data folders' shape; rows and images are read by the importer, before anything is trained."""
    wanted = {"voc": ("Annotations", "JPEGImages", "ImageSets/Main"), "dataset": ("items.parquet", "dataset.yaml")}
    folders = [("data.source", recipe.data.source, recipe.data.format)] if recipe.data.source else []
    folders += [("evaluation.datasets", folder, "dataset") for folder in recipe.evaluation.datasets]
    duplicates = recipe.data.duplicates
    compared = "data.duplicates.benchmarks"
    folders += [(compared, folder, "dataset") for folder in (duplicates.benchmarks if duplicates else ())]
    mistakes: list[ResidencyError] = []
    for key, name, form in folders:
        absent = [inside for inside in wanted.get(form, ()) if not (Path(name) / inside).exists()]
        judged = form == "dataset" and not absent and key != compared
        if judged and (num_reports := count_kind(Path(name), AnswerKind.REPORT)):
            mistakes.append(
                DataError(
                    f"{key} {name} has {num_reports} items of the answer kind report",
                    "kinds with a verifier; that of reports does not exist yet",
                    "leave these items out of the dataset",
                )
            )
        if absent:
            mistakes.append(
                DataError(
                    f"{key} {name} lacks {', '.join(absent)}",
                    f"a folder in the format {form!r}",
                    f"correct {key} (in the recipe, or by --set {key}=…)",
                )
            )
    return mistakes


def check_overrules(recipe: Recipe) -> list[ResidencyError]:
    """Lists of a person's decisions that are not there."""
    gates, duplicates = recipe.data.gates, recipe.data.duplicates
    named = [("data.gates.overrules", gates.overrules if gates else None)]
    named += [("data.duplicates.overrules", duplicates.overrules if duplicates else None)]
    return [
        DataError(
            f"{key} {path} does not exist", "the list of an earlier run, edited", "correct the key or leave it out"
        )
        for key, path in named
        if path is not None and not Path(path).is_file()
    ]


def check_verifier(verifier: str | None) -> list[ResidencyError]:
    """A verifier of the user's own that is not on the path; nothing of it is run."""
    reason = why_not_found(verifier) if verifier else None
    if reason is None:
        return []
    return [
        RecipeError(
            f"rl.reward.verifier {verifier}: {reason}",
            "module:function, its module on the path",
            "put its folder on PYTHONPATH (on every node), or correct the name",
        )
    ]


def check_transport(profile: Profile) -> list[ResidencyError]:
    """A way for the weights that nobody could try: it would fail in the first update, with the cluster paid for."""
    if profile.weight_transport == "object_store":
        return []
    return [
        RecipeError(
            f"weight_transport {profile.weight_transport} is vLLM's own, for GPUs, and no GPU was at hand to try it on",
            "a transport that was run: object_store, which serves GPUs as well",
            "set weight_transport to object_store in the profile, or leave it out",
        )
    ]


def check_turns(recipe: Recipe, profile: Profile) -> list[ResidencyError]:
    """Asynchronous RL on devices that are shared in turns: there is no turn in which both could be at work."""
    if not profile.colocate or recipe.rl.staleness == 0:
        return []
    return [
        RecipeError(
            f"rl.staleness {recipe.rl.staleness} asks generators and learners to work at the same time, and colocate in"
            " the profile gives them the devices in turns",
            "rl.staleness 0 (synchronous), or devices for each",
            "set rl.staleness=0, or leave colocate out of the profile",
        )
    ]


def count_kind(dataset: Path, kind: AnswerKind) -> int:
    """Items of this answer kind in a dataset folder; 0 where its table cannot be read, which the import will tell."""
    try:
        kinds = pq.read_table(dataset / "items.parquet", columns=["answer_kind"]).column("answer_kind")
    except (pa.ArrowException, OSError, KeyError):
        return 0
    return kinds.to_pylist().count(kind.value)


def nearest_existing(path: Path) -> Path:
    """The path itself, or its closest parent that is there."""
    while not path.exists():
        path = path.parent
    return path


def check(recipe: Recipe, profile: Profile, run: Path | None = None) -> Findings:
    """All mistakes at once, and the plan. Folders that are absent here are notes where the roles run elsewhere."""
    mistakes: list[ResidencyError] = []
    notes: list[str] = []
    elsewhere = profile.cluster_cpus is None
    models = [recipe.student.model] if recipe.student.model != "tiny" else []
    models += [str(teacher.model) for teacher in recipe.all_teachers if teacher.kind == "vllm"]
    for model in models:
        if elsewhere and not Path(model).is_dir():
            notes.append(f"model {model} is not visible from here: it must be on every node that loads it")
        else:
            mistakes += check_model(model)
    data_mistakes = check_data(recipe) + check_overrules(recipe)
    named = [name for name in (recipe.data.source, *recipe.evaluation.datasets) if name]
    unseen = [name for name in named if not Path(name).is_dir()]
    if elsewhere and data_mistakes and unseen:
        notes.append(f"data {', '.join(unseen)} are not visible from here: they must be on the run's shared disk")
    else:
        mistakes += data_mistakes
    verifier_mistakes = check_verifier(recipe.rl.reward.verifier)
    if elsewhere:
        notes += [f"{mistake.seen}; it must be on the path of the nodes that judge" for mistake in verifier_mistakes]
    else:
        mistakes += verifier_mistakes
    roles: tuple[RolePlan, ...] = ()
    store: StorePlan | None = None
    try:
        roles, store = tuple(plan_memory(recipe, profile)), plan_store(recipe, profile)
    except ModelError as error:
        if not any(isinstance(mistake, ModelError) for mistake in mistakes):
            mistakes.append(error)
    mistakes += check_transport(profile) + check_turns(recipe, profile)
    mistakes += check_fit(roles, profile)
    if store is not None and store.total_gib > store.size_gib:
        notes.append(
            f"weights and rollouts take {store.total_gib:.2f} GiB of an object store of {store.size_gib:.2f} GiB:"
            " Ray will spill to disk"
        )
    by_turns = demands_of(profile, teachers=any(teacher.kind == "vllm" for teacher in recipe.all_teachers))
    demands = {demand.role: demand for turn in by_turns for demand in turn}
    types: tuple[NodeType, ...] | None = None
    try:
        types = node_types_of(profile)
    except RecipeError as error:
        mistakes.append(error)
    if types is not None:
        short = {str(error): error for turn in by_turns for error in capacity_errors(turn, types)}
        mistakes += short.values()
        notes += growth_notes(list(demands.values()), types)
    elif elsewhere:
        named = f"{profile.cluster_file} is not visible from here" if profile.cluster_file else "no cluster_file"
        notes.append(f"{named}: whether the cluster can seat the roles shows when they start")
    if run is not None:
        free = shutil.disk_usage(nearest_existing(run.absolute())).free
        if free < LEAST_FREE_BYTES:
            mistakes.append(
                StorageError(
                    f"{run} has {free / 1e9:.1f} GB free", "at least 1.1 GB", "free some space or choose another --run"
                )
            )
    return Findings(
        mistakes=tuple(mistakes),
        notes=tuple(notes),
        roles=roles,
        demands=tuple(demands.values()),
        node_types=types,
        store=store,
    )


def growth_notes(demands: list[Demand], types: tuple[NodeType, ...]) -> list[str]:
    """Roles that may grow to more actors than could ever be seated: no mistake, for they start with fewer."""
    return [
        f"{demand.role} may grow to {demand.most} actors, and all node types at their maximum seat {room:g}"
        for demand in demands
        if demand.number <= (room := most_seats(demand.seat, types)) < demand.most
    ]


def check_fit(roles: tuple[RolePlan, ...], profile: Profile) -> list[ResidencyError]:
    """Roles that cannot fit in memory: on their GPU each rank, and all CPU roles of a one-node profile together."""
    mistakes: list[ResidencyError] = []
    for plan in roles:
        too_big = plan.device == "GPU" and profile.gpu_memory_gib and plan.total_gib > profile.gpu_memory_gib
        if too_big or plan.kv_cache_gib < 0:
            mistakes.append(
                RecipeError(
                    f"{plan.role} needs {plan.parameters_gib:.1f} GiB of parameters and {plan.optimizer_gib:.1f} GiB of"
                    f" optimizer state on a GPU of {profile.gpu_memory_gib} GiB",
                    "each rank within its GPU",
                    "more learner ranks or ZeRO stage 3, or a larger tensor_parallel for an engine",
                )
            )
    on_cpu = sum(plan.total_gib * plan.ranks * plan.actors for plan in roles if plan.device == "CPU")
    if profile.cluster_cpus is not None and on_cpu > profile.node_memory_gib:
        mistakes.append(
            RecipeError(
                f"the roles on CPU need {on_cpu:.1f} GiB, and the node has {profile.node_memory_gib:.1f} GiB",
                "all of them within the node",
                "a smaller model, or another profile",
            )
        )
    return mistakes
