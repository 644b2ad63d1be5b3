"""Answer a question from a folder of texts with LangChain, offline.

    python examples/rag_langchain.py docs/guides "Which pooling?" [--where "source LIKE '%pool%'"]

The paragraphs of all .md and .txt files go into an index beside the folder, made anew in each run;
the cache gives embeddings that are known. The prompt is printed, and answered by a stand-in: put a
chat model of LangChain in its place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from embedkit import InputError
from embedkit.integrations.langchain import EmbedkitEmbeddings, EmbedkitVectorStore

PROMPT = ChatPromptTemplate.from_template(
    "Answer from these passages, and name the ones that you used.\n\n{passages}\n\n"
    "Question: {question}"
)
STAND_IN = FakeListChatModel(responses=["(here answers the chat model that you choose)"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("--where", help="a condition on source and paragraph")
    parser.add_argument("--model", default="minilm")
    options = parser.parse_args()
    try:
        if not (documents := paragraphs(options.folder)):
            raise InputError(f"{options.folder}: got no paragraphs, expected .md or .txt files")
        store = EmbedkitVectorStore(
            EmbedkitEmbeddings(options.model, cache=True),
            options.folder.resolve().with_suffix(".index"),
            filterable={"source": str, "paragraph": int},
        )
        store.delete()
        store.add_documents(documents)
        retriever = store.as_retriever(search_kwargs={"k": 3, "filter": options.where})
        question = {"passages": retriever | cited, "question": RunnablePassthrough()}
        prompt = (question | PROMPT).invoke(options.question)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{len(documents)} paragraphs\n\n{prompt.to_string()}\n")
    print((STAND_IN | StrOutputParser()).invoke(prompt))


def paragraphs(folder: Path) -> list[Document]:
    """The paragraphs of the files of a folder, each under an id that stays."""
    documents = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".md", ".txt"):
            source = str(path.relative_to(folder))
            blocks = filter(None, map(str.strip, path.read_text(encoding="utf-8").split("\n\n")))
            for n, text in enumerate(blocks, start=1):
                metadata = {"source": source, "paragraph": n}
                documents.append(Document(text, id=f"{source}#{n}", metadata=metadata))
    return documents


def cited(documents: list[Document]) -> str:
    """Passages as a prompt shows them."""
    return "\n\n".join(f"[{one.id}] {one.page_content}" for one in documents)


if __name__ == "__main__":
    main()
