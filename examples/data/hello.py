"""What hello.yaml is compiled from: `pip install kfp==2.17.3 && python hello.py`."""

from typing import List

from kfp import compiler, dsl


@dsl.component(base_image="python:3.11")
def greet(name: str, greeting: dsl.Output[dsl.Dataset]) -> int:
    with open(greeting.path, "w") as file:
        file.write(f"Hello, {name}!")
    return len(name)


@dsl.component(base_image="python:3.11")
def longest(lengths: List[int]) -> int:
    return max(lengths)


@dsl.pipeline(name="hello")
def hello(names: List[str] = ["Ada", "Grace"]) -> int:
    with dsl.ParallelFor(names) as name:
        greeted = greet(name=name)
    return longest(lengths=dsl.Collected(greeted.outputs["Output"])).output


if __name__ == "__main__":
    compiler.Compiler().compile(hello, "hello.yaml")
