"""Remote APIs as providers (DESIGN §3, "Gateway"): OpenAI's two, Anthropic's, Gemini's, and whatever is compatible.

Reading order: `capabilities` → `translation` → `shaping` (what is asked) → `validation` (what is checked) → `dialect`
and one file each → `transport` → `calling` → `answering` → `provider`.
"""
