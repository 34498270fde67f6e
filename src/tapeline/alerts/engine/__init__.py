"""The engine: what rules read, the rules as arrays, and the kernel that evaluates them tick by tick."""
