"""Named prompt templates, for models that have no chat template of their own."""

_TASK = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request."

# The prompt of Stanford Alpaca (tatsu-lab/stanford_alpaca, train.py), with its two wordings; the response follows
# "### Response:" directly and ends with the end-of-text token, as in its training code. It knows one turn. Here a
# system turn replaces the opening sentence, a tool's result is an input, and later turns follow after an
# empty line.
ALPACA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    "{% elif messages[0]['input'] %}"
    "{{ '" + _TASK + ", paired with an input that provides further context. " + _REQUEST + "' }}"
    "{% else %}{{ '" + _TASK + ". " + _REQUEST + "' }}{% endif %}"
    "{{ '\\n\\n' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Response:' + message['content'] + (eos_token | default('')) }}"
    "{% if add_generation_prompt or not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% elif message['role'] == 'tool' %}{{ '### Input:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif not (loop.first and message['role'] == 'system') %}"
    "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% if message['input'] %}{{ '### Input:\\n' + message['input'] + '\\n\\n' }}{% endif %}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}"
)

# No markup, as Superfiltering scores (tianyi-lab/Superfiltering, code_ifd/data_analysis.py): a line for the
# instruction, one for the input if there is one, then the response, and nothing that ends it. It knows one turn; here
# a line break ends every turn that others follow.
PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if add_generation_prompt or message['role'] != 'assistant' or not loop.last %}{{ '\n' }}{% endif %}"
    "{% if message['input'] %}{{ message['input'] + '\n' }}{% endif %}"
    "{% endfor %}"
)

NAMED = {"alpaca": ALPACA, "plain": PLAIN}
