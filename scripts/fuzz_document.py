"""Validates an OpenAPI document and every example against its schema."""

import json
import sys
import urllib.request

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


def examples(node, pointer=""):
    """Yields every (pointer, schema, example) below a node."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from examples(item, f"{pointer}/{index}")
    if not isinstance(node, dict):
        return
    schema, named = node.get("schema", node), node.get("examples")
    if "example" in node:
        yield pointer, schema, node["example"]
    if isinstance(named, list):
        yield from ((pointer, schema, example) for example in named)
    elif isinstance(named, dict) and "schema" in node:
        yield from ((f"{pointer} ({name})", schema, one["value"]) for name, one in named.items())
    for key, value in node.items():
        # The contents of an example are data, whatever their keys are.
        if key not in ("example", "examples", "default", "enum", "const"):
            yield from examples(value, f"{pointer}/{key}")


def main(url):
    with urllib.request.urlopen(url) as response:
        document = json.load(response)
    if not document["openapi"].startswith(("3.1.", "3.2.")):
        sys.exit(f"{document['openapi']} is older than OpenAPI 3.1")
    OpenAPIV31SpecValidator(document).validate()
    registry = Registry().with_resource("urn:document", Resource(contents=document, specification=DRAFT202012))
    count, problems = 0, []
    for pointer, schema, example in examples(document):
        count += 1
        # References are relative to the root of the document.
        validator = Draft202012Validator(
            json.loads(json.dumps(schema).replace('"#/', '"urn:document#/')),
            registry=registry,
            format_checker=FormatChecker(),
        )
        problems += [f"{pointer}: {error.message}" for error in validator.iter_errors(example)]
    operations = [each for path in document["paths"].values() for each in path.values() if "responses" in each]
    for operation in operations:
        for status, response in operation["responses"].items():
            body = next(iter(response.get("content", {}).values()), {})
            if body and "schema" not in body:
                problems.append(f"{operation['operationId']} {status}: a body without a schema")
    if problems:
        sys.exit("\n".join(problems))
    print(f"OpenAPI {document['openapi']}: valid; {len(operations)} operations, {count} valid examples")


main(sys.argv[1])
