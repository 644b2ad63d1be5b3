"""What the page says, in English and in Korean."""

from __future__ import annotations

from embedkit.evaluation.report.notes import LANGUAGES

WORDS: dict[str, tuple[str, str]] = {
    "all_layers": (
        "Two or more hidden states make a heat map; compare with --layers all.",
        "은닉 상태가 둘 이상이어야 히트맵을 그립니다. --layers all로 비교해 보십시오.",
    ),
    "and": ("and", "대"),
    "baseline": ("baseline", "기준"),
    "best": ("best", "최고"),
    "best_in": ("Best in", "최고 비율"),
    "by_length": ("Spearman by sentence length (words)", "문장 길이(어절)별 스피어만"),
    "by_overlap": ("Spearman by word overlap", "단어 겹침별 스피어만"),
    "command": ("Command", "명령"),
    "dataset": ("Data set", "데이터"),
    "data": ("Data", "데이터"),
    "depth": ("Depth of rankings", "순위의 깊이"),
    "device": ("Device", "장치"),
    "diagnosis": ("Diagnosis", "진단"),
    "difference": ("Difference to the baseline", "기준과의 차이"),
    "disagree": ("Where two recipes disagree most", "두 레시피가 가장 크게 엇갈리는 문장 쌍"),
    "distinct": ("distinct sentences", "서로 다른 문장"),
    "distinct_texts": ("distinct texts", "서로 다른 텍스트"),
    "document_prompt": ("Prompt of documents", "문서 프롬프트"),
    "documents": ("documents", "문서"),
    "drawn": (
        "{shown} of {n} pairs are shown, drawn at random.",
        "문장 쌍 {n}개 중 무작위로 뽑은 {shown}개를 보입니다.",
    ),
    "effective_rank": ("Effective rank", "유효 랭크"),
    "fitted": ("fitted", "맞춤"),
    "fitted_on": ("Recipes fitted on", "레시피를 맞춘 텍스트"),
    "fitted_on_the_data": ("fitted on the data", "평가 데이터에 맞춤"),
    "forest": ("Scores with 95 % intervals", "점수와 95% 구간"),
    "forest_help": (
        "{metric} x 100. The dashed line is the baseline.",
        "{metric} x 100. 점선은 기준 레시피입니다.",
    ),
    "geometry": ("Shape of the vectors", "벡터의 모양"),
    "geometry_help": (
        "Mean cosine: of two random sentences (anisotropy; near 0 is even, near 1 a narrow cone). "
        "Top component: its share of the variance. Effective rank: how many dimensions are in use.",
        "평균 코사인: 무작위로 고른 두 문장의 코사인(비등방성. 0에 가까우면 고르게 퍼져 있고 1에 "
        "가까우면 한쪽으로 쏠려 있습니다). 첫 주성분: 분산에서 차지하는 비율. 유효 랭크: 실제로 "
        "쓰이는 차원 수.",
    ),
    "head": ("Head", "헤드"),
    "heat": ("Hidden states and poolings", "은닉 상태와 풀링"),
    "index": ("Search", "검색"),
    "interval": ("95 %", "95% 구간"),
    "layer": ("hidden state", "은닉 상태"),
    "left_out": (
        "queries left out of their own rankings",
        "질의는 자신의 순위에서 제외",
    ),
    "max_length": ("Maximum length", "최대 길이"),
    "mean_cosine": ("Mean cosine", "평균 코사인"),
    "map": ("MAP", "MAP"),
    "model": ("Model", "모델"),
    "model_sha256": ("Model fingerprint (SHA-256)", "모델 지문(SHA-256)"),
    "mrr@10": ("MRR@10", "MRR@10"),
    "ndcg@10": ("nDCG@10", "nDCG@10"),
    "none": ("none", "없음"),
    "notes": ("What to know", "읽기 전에"),
    "off": ("Rank off by", "순위 차이"),
    "off_help": (
        "Rank of the prediction less the right one, as a share of all ranks; + is too similar.",
        "예측 순위에서 정답 순위를 뺀 값(전체 순위 대비). +는 실제보다 비슷하다고 본 것입니다.",
    ),
    "overlap_help": (
        "Words are split at white space (in Korean: eojeol, particles included); overlap is the "
        "share of words that both sentences have.",
        "단어는 공백으로 나눕니다(한국어는 조사를 포함한 어절). 겹침은 두 문장의 전체 단어 중 "
        "공통 단어의 비율입니다.",
    ),
    "own": ("own", "모델 기본"),
    "p_holm": ("p (Holm)", "p(홀름)"),
    "pairs": ("pairs", "문장 쌍"),
    "pearson": ("Pearson", "피어슨"),
    "pooling": ("pooling", "풀링"),
    "precision": ("Precision", "정밀도"),
    "prediction": ("Prediction", "예측"),
    "prompt": ("Prompt", "프롬프트"),
    "protocol": ("Protocol", "실험 조건"),
    "python_call": ("a call in Python", "파이썬 호출"),
    "queries": ("queries", "질의"),
    "query_prompt": ("Prompt of queries", "질의 프롬프트"),
    "recall@100": ("Recall@100", "재현율@100"),
    "recipe": ("Recipe", "레시피"),
    "report": ("embedkit report", "embedkit 보고서"),
    "resamples": ("Bootstrap resamples", "부트스트랩 재표본"),
    "results": ("Results", "결과"),
    "role_scored": ("scored", "평가"),
    "role_selected on": ("selected on", "선택"),
    "role_trained on": ("trained on", "학습"),
    "scatter": ("Prediction against score", "정답 점수와 예측"),
    "score": ("Score", "정답 점수"),
    "seed": ("Seed", "시드"),
    "scored_texts": ("the scored texts themselves", "평가 텍스트 자체"),
    "selected": ("selected", "선택됨"),
    "sentence1": ("Sentence 1", "문장 1"),
    "sentence2": ("Sentence 2", "문장 2"),
    "similarity": ("By", "유사도"),
    "aggregation": ("Aggregation", "집계"),
    "sort_help": ("Select a heading to sort.", "열 제목을 누르면 정렬됩니다."),
    "spearman": ("Spearman", "스피어만"),
    "tied_scores": ("tied scores", "동점 비율"),
    "texts": ("texts", "텍스트"),
    "ties": ("Ties", "동점"),
    "top_share": ("Top component", "첫 주성분"),
    "truncated": ("truncated", "잘린 문장"),
    "versions": ("Versions", "버전"),
    "worst": ("The pairs that it gets most wrong", "가장 크게 틀린 문장 쌍"),
}


def labels(language: str) -> dict[str, str]:
    """All of them in one language."""
    place = LANGUAGES.index(language)
    return {key: both[place] for key, both in WORDS.items()}
