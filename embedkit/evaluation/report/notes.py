"""What reports say, in English and in Korean."""

from __future__ import annotations

import re
from typing import Any

from embedkit.errors import InputError

LANGUAGES = ("en", "ko")


# key -> English, Korean; filled with str.format.
NOTES: dict[str, tuple[str, str]] = {
    "encoded": (
        "{distinct:,} distinct of {sentences:,} sentences were encoded, each once; {truncated:,} "
        "of them ({share:.1f} %) were cut to {max_length} tokens.",
        "문장 {sentences:,}개 가운데 서로 다른 {distinct:,}개를 한 번씩만 인코딩했고, 그중 "
        "{truncated:,}개({share:.1f}%)는 {max_length}토큰에서 잘렸습니다.",
    ),
    "encoded_texts": (
        "{distinct:,} distinct of {sentences:,} texts were encoded, each once; {truncated:,} "
        "of them ({share:.1f} %) were cut to {max_length} tokens.",
        "텍스트 {sentences:,}개 가운데 서로 다른 {distinct:,}개를 한 번씩만 인코딩했고, 그중 "
        "{truncated:,}개({share:.1f}%)는 {max_length}토큰에서 잘렸습니다.",
    ),
    "read_together": (
        "{distinct:,} pairs were scored, both sentences in one pass; {truncated:,} of them "
        "({share:.1f} %) were cut to {max_length} tokens.",
        "문장 쌍 {distinct:,}개를 두 문장을 함께 읽어 채점했고, 그중 {truncated:,}개"
        "({share:.1f}%)는 {max_length}토큰에서 잘렸습니다.",
    ),
    "exact": (
        "Each query of {dataset} ranks its {documents:,} documents by exact search, to the first "
        "{depth:,}.",
        "{dataset}의 질의마다 문서 {documents:,}개를 전수 검색해 상위 {depth:,}개까지 순위를 "
        "매겼습니다.",
    ),
    "approximate": (
        "Each query of {dataset} ranks its {documents:,} documents by an approximate index, "
        "{index}, to the first {depth:,}.",
        "{dataset}의 질의마다 문서 {documents:,}개를 근사 인덱스({index})로 검색해 상위 "
        "{depth:,}개까지 순위를 매겼습니다.",
    ),
    "left_out": (
        "{count:,} queries of {dataset} are documents too, and were left out of their own "
        "rankings, as in BEIR.",
        "{dataset}의 질의 중 {count:,}개는 문서이기도 하여, BEIR처럼 자신의 순위에서 뺐습니다.",
    ),
    "missing_documents": (
        "{count:,} relevant documents of {dataset} are not in its corpus; they count as not "
        "retrieved, as in trec_eval.",
        "{dataset}의 관련 문서 {count:,}개가 말뭉치에 없어 trec_eval처럼 검색되지 않은 것으로 "
        "계산했습니다.",
    ),
    "queries_without_relevant": (
        "{count:,} judged queries of {dataset} have no relevant document; their values are 0 and "
        "count in the means, as in trec_eval.",
        "{dataset}의 평가 질의 {count:,}개에는 관련 문서가 없습니다. trec_eval처럼 값을 0으로 하여 "
        "평균에 넣었습니다.",
    ),
    "prompts": (
        "The prompt of queries is {query!r}, of documents {document!r}.",
        "프롬프트는 질의에 {query!r}, 문서에 {document!r}입니다.",
    ),
    "fitted": (
        "{recipes}: fitted on {texts:,} texts ({source}).",
        "{recipes}: 텍스트 {texts:,}개에 맞췄습니다({source}).",
    ),
    "fitted_on_data": (
        "{recipes}: fitted on {texts:,} texts (the scored texts themselves). Their scores were not "
        "used, but figures for other texts may be lower.",
        "{recipes}: 평가하는 텍스트 {texts:,}개 자체에 맞췄습니다. 정답 점수는 쓰지 않았지만, 다른 "
        "텍스트에서는 수치가 더 낮을 수 있습니다.",
    ),
    "fit_note": ("{recipe}: {note}.", "{recipe} 맞춤: {note}."),
    "aggregation": (
        "Subsets are aggregated as {aggregation}.",
        "하위 집합은 {aggregation} 방식으로 집계했습니다.",
    ),
    "no_value": ("{recipe} has no value: {reason}.", "{recipe}: 값이 없습니다. {reason}."),
    "no_interval": (
        "{recipe} has no interval: {reason}.",
        "{recipe}: 구간이 없습니다. {reason}.",
    ),
    "lines": (
        "Differences of heads are to a line on the cosine, both fitted on the training pairs, "
        "with the 95 % interval of a paired bootstrap.",
        "헤드의 차이는 코사인에 맞춘 직선과의 차이입니다. 둘 다 학습용 문장 쌍에 맞췄고, 대응표본 "
        "부트스트랩의 95% 구간을 함께 적었습니다.",
    ),
    "label_ranges": (
        "The labels of {dataset} range from {low:g} to {high:g}, the training labels from "
        "{trained_low:g} to {trained_high:g}. If their scales differ, MSE and F1 mean nothing, and "
        "only the correlations do.",
        "{dataset}의 정답 점수 범위는 {low:g}~{high:g}이고, 학습에 쓴 정답 점수의 범위는 "
        "{trained_low:g}~{trained_high:g}입니다. 척도가 서로 다르면 MSE와 F1은 의미가 없고 "
        "상관계수만 의미가 있습니다.",
    ),
    "intervals": (
        "Intervals are of a bootstrap over the pairs ({resamples:,} resamples, within subsets, "
        "seed {seed}).",
        "구간은 문장 쌍을 다시 뽑는 부트스트랩으로 구했습니다(재표본 {resamples:,}개, 하위 집합별, "
        "시드 {seed}).",
    ),
    "intervals_queries": (
        "Intervals are of a bootstrap over the queries ({resamples:,} resamples, seed {seed}).",
        "구간은 질의를 다시 뽑는 부트스트랩으로 구했습니다(재표본 {resamples:,}개, 시드 {seed}).",
    ),
    "intervals_both": (
        "Intervals are of a bootstrap over the pairs or queries ({resamples:,} resamples, within "
        "subsets, seed {seed}).",
        "구간은 문장 쌍이나 질의를 다시 뽑는 부트스트랩으로 구했습니다(재표본 {resamples:,}개, "
        "하위 집합별, 시드 {seed}).",
    ),
    "baseline": (
        "Differences between recipes are to {baseline}, from the same resamples; p is two-sided "
        "and Holm-corrected over the recipes compared.",
        "레시피 간 차이는 {baseline} 대비 값이며 같은 재표본에서 구했습니다. p는 양측이고, 비교한 "
        "레시피 전체에 대해 홀름 방법으로 보정했습니다.",
    ),
    "same": (
        "No difference to {baseline} is significant at 5 %.",
        "{baseline} 대비 차이가 5% 수준에서 유의한 레시피는 없습니다.",
    ),
    "winners": (
        "Best on each data set alone: {winners}.",
        "데이터별 최고: {winners}.",
    ),
    "optimistic": (
        "The best of several recipes was chosen on the same data that scores it, so its score is "
        "optimistic; select on other pairs to avoid that.",
        "여러 레시피 중 최고를 점수를 매긴 바로 그 데이터에서 골랐으므로 그 점수는 실제보다 "
        "좋게 나온 값입니다. 피하려면 다른 문장 쌍에서 고르십시오(--select).",
    ),
    "selected": (
        "{recipe} with {similarity} was selected on {datasets} (Spearman {value:.2f}), not on the "
        "data that scores it here.",
        "{recipe}({similarity})는 {datasets}에서 골랐습니다(스피어만 {value:.2f}). 여기서 점수를 "
        "매긴 데이터는 고르는 데 쓰지 않았습니다.",
    ),
    "selected_none": (
        "No recipe has a value on {datasets}, so none was selected.",
        "{datasets}에서 값이 있는 레시피가 없어 아무것도 고르지 못했습니다.",
    ),
    "shared_pairs": (
        "{count:,} of the pairs that score it are also among those that it was selected on, so "
        "its score is optimistic.",
        "점수를 매긴 문장 쌍 가운데 {count:,}개가 고르는 데 쓴 문장 쌍에도 있으므로 그 점수는 "
        "실제보다 좋게 나온 값입니다.",
    ),
}


# What `measure` and its kin say, and the same in Korean.
_REASONS: tuple[tuple[str, str], ...] = (
    (r"(\d+) pairs are too few", "문장 쌍 {}개로는 너무 적습니다"),
    ("the similarities are all the same", "유사도가 모두 같습니다"),
    ("the scores are all the same", "정답 점수가 모두 같습니다"),
    ("the similarities are not all finite", "유사도에 유한하지 않은 값이 있습니다"),
    ("the squared errors are not finite", "제곱 오차가 유한하지 않습니다"),
    ("the checkpoint has no pooler weights", "체크포인트에 풀러 가중치가 없습니다"),
    ("some resamples have no value", "값이 없는 재표본이 있습니다"),
    (r"subset (.+): (.+)", "하위 집합 {}: {}"),
    (r"(.+) has no value", "{}에 값이 없습니다"),
)


def check_language(language: str) -> None:
    """Refuse other languages.

    Raises:
        InputError: the language and the choices.
    """
    if language not in LANGUAGES:
        raise InputError(f"unknown language {language!r}; choose from {', '.join(LANGUAGES)}")


def in_words(key: str, language: str = "en", **values: Any) -> str:
    """A sentence of `NOTES`."""
    if language == "ko" and "reason" in values:
        values["reason"] = reason_in(values["reason"], language)
    return NOTES[key][LANGUAGES.index(language)].format(**values)


def reason_in(reason: str, language: str) -> str:
    """A reason in another language; English where it has none."""
    if language == "ko":
        for pattern, korean in _REASONS:
            if found := re.fullmatch(pattern, reason):
                return korean.format(*(reason_in(part, language) for part in found.groups()))
    return reason
