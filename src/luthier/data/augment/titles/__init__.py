"""Job titles varied by rules: five categories, from word lists and templates in the YAML files beside the code."""
