/* RULE(MP_27, condition) marks the place where a rule of docs/rules.toml is enforced; its value is the condition's. Only the
 * canary build (-DENGINE_CANARIES; tests/rules, never installed) is different: the rule that the environment variable
 * MPQ_CANARY names is removed, its conditions are all 0, and the rule's own test has to fail. Where a rule is a choice and no
 * condition, RULE(MP_28, true) chooses what is right, and the other arm is the mistake that the rule forbids. */
#ifndef RULES_H
#define RULES_H
#ifdef ENGINE_CANARIES
#include <stdbool.h>
/* MPQ_CANARY is the id, MP_27, or the id at one of its places, MP_27@path.c:126 */
bool rule_removed(const char *id, const char *file, int line);
#define RULE(id, condition) (rule_removed(#id, __FILE__, __LINE__) ? 0 : (condition))
#else
#define RULE(id, condition) (condition)
#endif
#endif
