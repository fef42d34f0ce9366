"""Validates an OpenAPI document: its form, and every example in it against its schema."""

import json
import sys
import urllib.request

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


def examples(node, pointer=""):
    """Every (pointer, schema, example) below a node."""
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
        # What lies inside of an example is data, whatever its keys are called.
        if key not in ("example", "examples", "default", "enum", "const"):
            yield from examples(value, f"{pointer}/{key}")


def main(url):
    with urllib.request.urlopen(url) as answer:
        document = json.load(answer)
    if not document["openapi"].startswith(("3.1.", "3.2.")):
        sys.exit(f"{document['openapi']} is older than OpenAPI 3.1")
    OpenAPIV31SpecValidator(document).validate()
    registry = Registry().with_resource("urn:document", Resource(contents=document, specification=DRAFT202012))
    count, faults = 0, []
    for pointer, schema, example in examples(document):
        count += 1
        # References in it start at the document's root.
        validator = Draft202012Validator(
            json.loads(json.dumps(schema).replace('"#/', '"urn:document#/')),
            registry=registry,
            format_checker=FormatChecker(),
        )
        faults += [f"{pointer}: {error.message}" for error in validator.iter_errors(example)]
    operations = [each for path in document["paths"].values() for each in path.values() if "responses" in each]
    for operation in operations:
        for status, response in operation["responses"].items():
            body = next(iter(response.get("content", {}).values()), {})
            if body and "schema" not in body:
                faults.append(f"{operation['operationId']} {status}: a body without a schema")
    if faults:
        sys.exit("\n".join(faults))
    print(f"OpenAPI {document['openapi']}: valid; {len(operations)} operations, {count} examples that fit")


main(sys.argv[1])
