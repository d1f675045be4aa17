/* RULE(MP_27, condition) marks the place where a rule of docs/rules.toml is enforced; its value is the condition's. Only the
 * canary build (-DENGINE_CANARIES; tests/rules, never installed) is different: the rule that the environment variable
 * MPQ_CANARY names is removed, its conditions are all 0, and the rule's own test has to fail. Where a rule is a choice and no
 * condition, RULE(MP_28, true) chooses what is right, and the other arm is the mistake that the rule forbids. */
#ifndef RULES_H
#define RULES_H
#ifdef ENGINE_CANARIES
#include <stdbool.h>
bool rule_removed(const char *id);      /* id as written in RULE: MP_27 */
#define RULE(id, condition) (rule_removed(#id) ? 0 : (condition))
#else
#define RULE(id, condition) (condition)
#endif
#endif
