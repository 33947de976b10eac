"""The commented project.yaml that `p2pcap project init` writes."""

TEMPLATE = """\
# A p2pcap project. After a change run: p2pcap project sign {directory}
# Every key is explained in docs/maintainer.md.

name: {name}
description: ""
license: ""                 # of the captions, for the people who will use them

# A folder of images, a file or pattern (*.parquet, *.tar, urls.csv), hf://datasets/OWNER/NAME, or an https address.
# What is on this machine stays here, and volunteers get the images from the swarm, by content hash. Everything else
# they read where it is. With more to say, it is a section:
#   images:
#     source: shards/*.parquet
#     fields: [title]       # columns that go with each image, for prompts and exports
#     key_column: id        # docs/maintainer.md has all keys
images: {images}

# The model: a directory in the Hugging Face layout, or a name on the Hub.
model: {model}
revision: "{revision}"                # 40-hex commit of a model on the Hub; empty: the newest at signing
dtype: {dtype}                 # auto, float32, float16, bfloat16

# Each prompt is answered for each image; `name` is the column in the export.
# Several models, or stages that use each other's answers: `stages`, see docs/maintainer.md.
prompts:
{prompts}

sampling:
  max_tokens: {max_tokens}
  temperature: 0            # 0: always the likeliest token, so captions can be checked

# What is no answer: it is asked for once more, and then the image ends as an error.
output:
  loops: true               # a text that repeats itself to its end
  refusals:                 # a text that begins with one of these, whatever the case
    - I'm sorry
    - I am sorry
    - I apologize
    - I cannot
    - I can't
    - I'm unable
    - I am unable
    - I'm not able
    - I am not able
    - As an AI language
    - As an AI model
#  whole: true              # a text that was cut at max_tokens
#  least: 10                # a text of fewer characters
#  cut: ["<|end|>"]         # the text ends before the first of these

# Whose results are taken: vllm is vLLM in the volunteer's own process, openai a server that the volunteer names, of
# which nobody sees what it runs. Left out: both.
# engines: [vllm]

image_edge: {image_edge}               # longest edge in pixels before the model's own resizing; 0: as it is
chunk: {chunk}                 # images in a chunk; about ten minutes of one GPU is right
policy:
  wait_for_engines: {wait_for_engines}       # captioning starts once so many engines are ready
  attempts: 3               # tries an image gets before it becomes an error row
  error_authors: 2          # volunteers who must fail at an image before nobody tries it any more
#  admission: allowlist     # who may join: invite (as now: whoever has a ticket), allowlist, open
# deadline: 2030-01-31      # no new work is begun after that day
# keep: true                # after a change of prompts or model: captions that are there stay as they are
expires_days: 90            # how long the signature holds
"""
