# Runs a step as it stands, then writes what it said in KFP's executor output to the files that Argo reads.
import json, os, shutil, subprocess, sys

plan, words = json.loads(sys.argv[1]), sys.argv[2:]
ended = subprocess.run(words).returncode
if ended:
    sys.exit(ended if ended > 0 else 128 - ended)
said = {}
if os.path.exists(plan["said"]):
    with open(plan["said"]) as file:
        said = json.load(file)
values = said.get("parameterValues") or {}
for name, (path, is_text) in plan["parameters"].items():
    if name in values:
        value = values[name]
        text = value if is_text and isinstance(value, str) else json.dumps(value)
    elif os.path.exists(path):
        with open(path) as file:
            text = file.read()
        if not is_text and text.strip() in ("True", "False"):
            text = text.strip().lower()
    else:
        sys.exit("output %s was not given" % name)
    with open(path, "w") as file:
        file.write(text)
for name, path in plan["artifacts"].items():
    for one in ((said.get("artifacts") or {}).get(name) or {}).get("artifacts") or []:
        elsewhere = one.get("custom_path") or one.get("uri") or path
        if elsewhere != path and os.path.exists(elsewhere):
            (shutil.copytree if os.path.isdir(elsewhere) else shutil.copy)(elsewhere, path)
        if not os.path.exists(path) and one.get("metadata"):
            with open(path, "w") as file:
                json.dump(one["metadata"], file)
