"""Models as transformers has them: a folder of config.json, safetensors and tokenizer.json, or a live object.

config_files   the folder's JSON files, with limits
safetensors    one file of tensors, mapped;  shards: all of a folder's
stored         those tensors under GGUF's names and in its conventions, quantised where that is asked
tokenizer      tokenizer.json and the files around it as a `Tokenizer`
folder, live   a folder, a live object, each as a `ModelFile`
"""
