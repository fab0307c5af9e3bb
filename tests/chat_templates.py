"""Chat templates in the manner of well-known ones: what they do to a conversation, in few words and markup of ours."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Llama 3: trims what is said
TRIMS = (
    "{{ '<|begin|>' }}{% for m in messages %}"
    "{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
# Gemma: an assistant is called model, and a system turn goes into the first question
FOLDS_THE_SYSTEM_TURN = (
    "{{ '<|begin|>' }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{{ '<|turn|>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ (first if loop.first else '') + m.content | trim + '<|/turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>model\n' }}{% endif %}"
)
# Mistral: brackets around questions, nothing before an answer but a space, and no generation prompt
BRACKETS = (
    "{{ '<|begin|>' }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content | trim + '<|end|>' }}"
    "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
# Phi 3: the text ends with a token that no turn has
ENDS_THE_TEXT = (
    "{% for m in messages %}{{ '<|head|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
)
# Qwen 3: thoughts of earlier answers are taken out, and the last answer has one, empty if need be
KEEPS_THE_LAST_THOUGHT = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% set said = m.content %}{% set thought = '' %}{% if '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + said.lstrip('\n') }}{% else %}{{ said }}{% endif %}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# DeepSeek R1: every thought is taken out, and the generation prompt opens one
OPENS_A_THOUGHT = (
    "{{ '<|begin|>' }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|head|>' + m.content.split('</think>')[-1] + '<|end|>' }}{% else %}{{ '<|user|>' + m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|head|><think>\n' }}{% endif %}"
)
# gpt-oss: the last answer ends with another token than those before it, and each says its channel
RETURNS = (
    "{{ '<|head|>system<|/head|>Today is ' + strftime_now('%Y-%m-%d') + '<|end|>' }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}{{ '<|head|>assistant<|turn|>final<|/head|>' + m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}{{ '<|head|>' + m.role + '<|/head|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant' }}{% endif %}"
)
# Llama 3 as it was first published: the generation prompt is always there
ALWAYS_OPENS = (
    "{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{{ '<|head|>assistant<|/head|>\n\n' }}"
)
# Llama 3.2: the date of a system turn that is always there
DATED = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{% endif %}"
    "{{ '<|head|>system<|/head|>\n\nToday Date: ' + date_string + '<|eot|>' }}"
    "{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
SPECIAL = [
    "<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", "<|turn|>", "<|/turn|>", "<|end|>", "<|user|>", "<|return|>",
]  # fmt: skip
"""Their tokens, beside those of ChatML."""
