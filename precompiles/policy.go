package precompiles

// byMotion reports whether a motion that was carried makes the call: what its institutions agreed on rests on no role of an account.
func byMotion(env Env) bool { return env.Caller() == GovernanceAddress }
