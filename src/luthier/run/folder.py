"""The run folder: every path in one place, and how a run is named and found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from luthier.errors import UserError, did_you_mean

LATEST = "latest"


@dataclass(frozen=True)
class TrainingFolder:
    """The paths of one training.

    Attributes:
        path: `4-train` of a run, or `seed-N` in it.
    """

    path: Path

    @property
    def metrics(self) -> Path:
        """One line an optimizer step, one an evaluation on the validation rows."""
        return self.path / "metrics.jsonl"

    @property
    def guards(self) -> Path:
        """What the guards saw in training, an event a line; not there when there was none."""
        return self.path / "guards.jsonl"

    @property
    def difficulties(self) -> Path:
        """The base's loss on each training row, by which a curriculum orders them."""
        return self.path / "difficulties.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter as a plain PEFT folder; after full training a plain transformers folder."""
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        """How the training went, and the proof of its adapter."""
        return self.path / "train.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths inside one run. Making the object creates nothing.

    Attributes:
        path: `<runs>/<recipe name>/<id>`; the id is the local start time, `2026-11-21T10-20-30`.
    """

    path: Path

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def record(self) -> Path:
        """run.json: seed, versions, machine, stages with status and seconds."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        """What happened when, one JSON document a line."""
        return self.path / "events.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / ".lock"

    @property
    def data(self) -> Path:
        """Folder of the prepare stage."""
        return self.path / "1-data"

    def rows(self, split: str) -> Path:
        """Rows of one split: train, validation or test."""
        return self.data / f"{split}.jsonl"

    @property
    def rejected(self) -> Path:
        """Rows that were not taken, each with its reason."""
        return self.data / "rejected.jsonl"

    @property
    def variations(self) -> Path:
        """Titles and the variations made of them, as a table; there when titles were augmented."""
        return self.data / "jittered_titles.csv"

    @property
    def refused(self) -> Path:
        """Variations that were made and not taken, each with its reason; there when rows were augmented."""
        return self.data / "refused.jsonl"

    @property
    def data_report(self) -> Path:
        """Counts, statistics and overlap of the data."""
        return self.data / "report.json"

    @property
    def plan_report(self) -> Path:
        """What the training will cost, and the proof of what is trained, before it starts."""
        return self.path / "2-plan" / "plan.json"

    @property
    def training(self) -> Path:
        """Folder of the train stage."""
        return self.path / "4-train"

    def training_of(self, seed: int | None = None) -> TrainingFolder:
        """The training of the run, or that of a further training seed beside it."""
        return TrainingFolder(self.training if seed is None else self.training / f"seed-{seed}")

    @property
    def metrics(self) -> Path:
        """See `TrainingFolder`, like the four that follow; those of the first seed where several were trained."""
        return self.training_of().metrics

    @property
    def guards(self) -> Path:
        """What the guards saw in training."""
        return self.training_of().guards

    @property
    def difficulties(self) -> Path:
        """How difficult the base finds each training row."""
        return self.training_of().difficulties

    @property
    def adapter(self) -> Path:
        """The trained adapter."""
        return self.training_of().adapter

    @property
    def train_report(self) -> Path:
        """How the training went, and the proof of its adapter; of each seed where several were trained."""
        return self.training_of().report

    @property
    def export(self) -> Path:
        """Folder of the export stage."""
        return self.path / "7-export"

    @property
    def merged(self) -> Path:
        """Base and adapter as one plain transformers or sentence-transformers folder."""
        return self.export / "merged"

    @property
    def onnx(self) -> Path:
        """The merged model as an ONNX graph, with its tokenizer."""
        return self.export / "onnx"

    @property
    def verification(self) -> Path:
        """How far each exported model is from the trained one."""
        return self.export / "verify.json"

    @property
    def card(self) -> Path:
        """The model card, with the metadata that the Hugging Face Hub reads."""
        return self.export / "README.md"

    @property
    def report(self) -> Path:
        """Folder of the report stage."""
        return self.path / "8-report"

    @property
    def page(self) -> Path:
        """The report as one self-contained page."""
        return self.report / "index.html"

    @property
    def infographic(self) -> Path:
        """The run on one page: `infographic.svg`; the picture beside it is a .png."""
        return self.report / "infographic.svg"

    @property
    def figures(self) -> Path:
        """The figures of the report, each as .svg and .pdf."""
        return self.report / "figures"

    def document(self, name: str) -> Path:
        """A document of the report: report.pdf, report.tex, slides.pdf, slides.tex."""
        return self.report / name

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluate stage."""
        return self.path / "5-evaluate"

    @property
    def vectors(self) -> Path:
        """Vectors of texts that were read once, each file with its fingerprint; may be removed at any time."""
        return self.path / "vectors"

    @property
    def comparison(self) -> Path:
        """Base against tuned, metric by metric."""
        return self.evaluation / "comparison.json"

    @property
    def metrics_report(self) -> Path:
        """Each metric of base and tuned, and how their answers went."""
        return self.evaluation / "metrics.json"

    @property
    def scores(self) -> Path:
        """One line an item and metric: base, tuned and their difference."""
        return self.evaluation / "scores.jsonl"

    def answers(self, who: str) -> Path:
        """The answers of one side, base or tuned, item by item."""
        return self.evaluation / f"answers-{who}.jsonl"

    @property
    def breakdowns(self) -> Path:
        """The primary metric by topic, difficulty and other fields."""
        return self.evaluation / "breakdowns.json"

    @property
    def forgetting(self) -> Path:
        """Base and tuned on general text, and on an earlier run's test rows."""
        return self.evaluation / "forgetting.json"

    @property
    def judge(self) -> Path:
        """What a judge thinks of the answers; there when the recipe asks for one."""
        return self.evaluation / "judge.json"

    @property
    def judgements(self) -> Path:
        """What the judge said of each pair of answers, in each order."""
        return self.evaluation / "judgements.jsonl"

    @property
    def diagnosis(self) -> Path:
        """What the diagnosis of the answers comes to."""
        return self.path / "6-diagnose" / "summary.json"

    @property
    def errors(self) -> Path:
        """The findings of the diagnosis, one a line."""
        return self.path / "6-diagnose" / "errors.jsonl"


def new_folder(runs: Path, name: str) -> RunFolder:
    """Create the folder of a new run; two processes that start in one second get different ones.

    Raises:
        UserError: `runs` cannot be written to.
    """
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    for attempt in range(1, 100):
        path = runs / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.is_dir():
                raise UserError("A file stands where the runs should go.", str(path), "Choose --runs FOLDER.") from None
        except OSError as error:
            remedy = "Choose another place with --runs FOLDER, or mend its permissions."
            raise UserError(f"Cannot create a run folder: {error.strerror}.", str(path), remedy) from error
        else:
            return RunFolder(path)
    raise UserError("Too many runs started in this second.", str(runs / name), "Wait a second and try again.")


def list_runs(runs: Path, name: str | None = None) -> list[RunFolder]:
    """Return the runs under `runs`, newest first; those of one recipe when `name` is given."""
    pattern = f"{name or '*'}/*/run.json"
    folders = [RunFolder(record.parent) for record in runs.glob(pattern)]
    return sorted(folders, key=lambda folder: (folder.id, folder.path.parent.name), reverse=True)


def find_run(named: str, runs: Path) -> RunFolder:
    """Return the run that `named` means: a path, `<recipe name>/latest`, `<recipe name>/<id>`, or an id.

    Raises:
        UserError: there is no such run; the message lists what there is.
    """
    if (Path(named) / "run.json").is_file():
        return RunFolder(Path(named).resolve())
    every = list_runs(runs)
    name, _, last = named.rpartition("/")
    if last == LATEST and name:
        matching = [folder for folder in every if folder.path.parent.name == name]
    else:
        matching = [folder for folder in every if folder.id == last and (not name or folder.path.parent.name == name)]
    if matching:
        return matching[0]
    known = [f"{folder.path.parent.name}/{folder.id}" for folder in every]
    names = sorted({f"{folder.path.parent.name}/{LATEST}" for folder in every})
    otherwise = f"Known here: {', '.join(names[:6])}." if names else "Start one with: luthier run RECIPE"
    raise UserError(f"No run {named!r}.", str(runs), did_you_mean(named, names + known, otherwise))
