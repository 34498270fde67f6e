"""Labels: what came of a bar. The only room that looks ahead, and each label says until when: ``t_end``."""
