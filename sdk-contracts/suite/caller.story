# What every caller does, whatever language it is written in. It calls the token and the registry of the same language.
accounts alice bob carol

alice deploys token with Gold XAU alice
alice deploys caller with token
alice calls token.issue alice 100
alice calls token.approve caller 50

story many are paid with one transaction
alice calls caller.pay_many [{"to":"bob","amount":10},{"to":"carol","amount":20}]
  emits token.Transferred from=alice to=bob amount=10
  emits PaidOut to=bob amount=10
  emits token.Transferred from=alice to=carol amount=20
  emits PaidOut to=carol amount=20
  returns [{"status":0,"data":"0x"},{"status":0,"data":"0x"}]
token.balance_of alice is 70
token.balance_of bob is 10
token.balance_of carol is 20
token.allowance alice caller is 20
caller.failures is 0

story a payment that fails is told, and the others go on
alice calls caller.pay_many [{"to":"bob","amount":30},{"to":"bob","amount":21},{"to":"carol","amount":20},{"to":"carol","amount":1}]
  emits token.Transferred from=alice to=bob amount=30
  emits PaidOut to=bob amount=30
  emits Failed to=bob amount=21 status=1003 data=(token.InsufficientAllowance 20 21)
  emits token.Transferred from=alice to=carol amount=20
  emits PaidOut to=carol amount=20
  emits Failed to=carol amount=1 status=1003 data=(token.InsufficientAllowance 0 1)
  returns [{"status":0,"data":"0x"},{"status":1003,"data":"(token.InsufficientAllowance 20 21)"},
           {"status":0,"data":"0x"},{"status":1003,"data":"(token.InsufficientAllowance 0 1)"}]
token.balance_of bob is 30
token.balance_of carol is 20
token.balance_of alice is 50
caller.failures is 2
alice calls token.approve caller 1000
alice calls caller.pay_many [{"to":"bob","amount":51}]
  emits Failed to=bob amount=51 status=1001 data=(token.InsufficientFunds 50 51)
caller.failures is 3

story it pays from who signed, and by their leave only
bob calls caller.pay_many [{"to":"bob","amount":1}]
  emits Failed to=bob amount=1 status=1003 data=(token.InsufficientAllowance 0 1)
token.balance_of alice is 100

story a transaction's sender pays although another contract calls
alice deploys caller as middle with token
alice calls middle.probe caller pay_many (caller.pay_many [{"to":"bob","amount":7}]) 0
  emits token.Transferred from=alice to=bob amount=7
  emits caller.PaidOut to=bob amount=7
token.balance_of bob is 7

story at most 50 payments in a call
alice calls caller.pay_many []
  emits nothing
  returns []
keep before
alice calls caller.pay_many (30 of {"to":"bob","amount":1})
  returns (30 of {"status":0,"data":"0x"})
back to before
alice calls caller.pay_many (51 of {"to":"bob","amount":1})
  refused TooMany count=51 most=50
# 50 are not too many for the contract, though their events are for the chain
alice calls caller.pay_many (50 of {"to":"bob","amount":1})
  ends denied Event
token.balance_of bob is 0

story a caller whose token is none
alice deploys caller as lost with bob
alice calls lost.pay_many [{"to":"carol","amount":1}]
  emits Failed to=carol amount=1 status=-4 data=0x
  returns [{"status":-4,"data":"0x"}]
lost.failures is 1
view lost.peek alice
  refused PeekFailed status=-4 data=0x

story a balance is asked for without leave to write
caller.peek alice is 100
caller.peek bob is 0
alice calls caller.peek alice
  returns 100
# the token's amounts have 128 bits
alice calls token.issue carol 340282366920938463463374607431768211355
caller.peek carol is 340282366920938463463374607431768211355

story a probe tells how a call ended
alice calls caller.probe token balance_of (token.balance_of alice) 0
  returns status=0 data=(u128 100)
alice calls caller.probe token transfer (token.transfer bob 1) 0
  returns status=1001 data=(token.InsufficientFunds 0 1)
  emits nothing
alice calls caller.probe token issue (token.issue bob 1) 0
  returns status=1002 data=(token.NotIssuer alice)
alice calls caller.probe token transfer 0x80 0
  returns status=1 ...
alice calls caller.probe token transfer 0x 0
  returns status=1 ...

story a probe of what is not there
alice calls caller.probe bob anything 0x80 0
  returns status=-4 data=0x
alice calls caller.probe token anything 0x80 0
  returns status=-4 data=0x
alice calls caller.probe nobody anything 0x80 0
  returns status=-4 data=0x

story what is not a method's name is a fault of the caller
alice calls caller.probe token "" 0x80 0
  ends denied Call
alice calls caller.probe token (65 of "x") 0x80 0
  ends denied Call

story a life cycle hook cannot be called
alice calls caller.probe token init (token.init Lead PB bob) 0
  returns status=-5 data=0x
token.about is name=Gold symbol=XAU issuer=alice

story a callee that is out of gas costs no more than it was given
alice calls caller.probe token balance_of (token.balance_of alice) 1
  returns status=-2 data=0x
alice calls caller.probe token issue (token.issue bob 1) 7000
  returns status=-2 data=0x
  emits nothing

story a callee's faults are told apart, and the caller goes on
alice deploys faulty
alice calls caller.probe faulty trap 0x80 0
  returns status=-1 data=0x
alice calls caller.probe faulty divide 0x80 0
  returns status=-1 data=0x
alice calls caller.probe faulty sink 0x80 0
  returns status=-6 data=0x
alice calls caller.probe faulty garble 0x80 0
  returns status=-7 data=0x
alice calls caller.probe faulty grow 0x80 0
  returns status=-8 data=0x
alice calls caller.probe faulty refuse 0x80 0
  returns status=7777 data=0x
alice calls caller.probe faulty spin 0x80 100_000
  returns status=-2 data=0x

story a callee that uses up all it was passed leaves its caller enough to say so
alice deploys faulty
alice calls caller.probe faulty spin 0x80 0
  given 6_000_000 gas
  returns status=-2 data=0x
alice calls faulty.spin
  given 200_000 gas
  ends out of gas
  uses 200_000 gas

story a token that is faulty
alice deploys faulty
alice deploys caller as fooled with faulty
alice calls fooled.pay_many [{"to":"bob","amount":1}]
  emits Failed to=bob amount=1 status=-4 data=0x
# its balance is a text
view fooled.peek alice
  ends aborted call_failed
alice calls fooled.probe faulty balance_of (token.balance_of alice) 0
  returns status=0 data=0x6374656e

story re-entry is denied
alice calls caller.probe caller failures (caller.failures) 0
  returns status=-3 data=0x
alice deploys caller as middle with token
alice calls caller.probe middle probe (middle.probe caller failures 0x80 0) 0
  returns status=0 data=(middle.Result -3 0x)

story a contract calls itself when it says that it may, up to 16 deep
alice calls caller.recurse 0
  returns 0
alice calls caller.recurse 1
  returns 1
alice calls caller.recurse 14
  returns 14
alice calls caller.recurse 15
  returns 15
# the call at the bottom is denied and counts for the one that made it
alice calls caller.recurse 16
  returns 16
alice calls caller.recurse 17
  returns 16
alice calls caller.recurse 1000
  returns 16

story what a callee did is undone when it fails, and what its caller did is kept
alice deploys caller as outer with token
# two payments in the inner call, which then has no gas left: neither has happened
alice calls outer.probe caller pay_many (caller.pay_many [{"to":"bob","amount":1},{"to":"bob","amount":2}]) 30000
  emits nothing
  returns status=-2 data=0x
token.balance_of bob is 0
caller.failures is 0
# 50 payments are more events than a transaction may have: those before are undone as well
alice calls outer.probe caller pay_many (caller.pay_many (50 of {"to":"bob","amount":1})) 0
  emits nothing
  returns status=-5 data=0x
token.balance_of bob is 0
token.allowance alice caller is 50
caller.failures is 0
# a failure further down is the inner call's to handle
alice calls outer.probe caller pay_many (caller.pay_many [{"to":"bob","amount":51}]) 0
  emits caller.Failed to=bob amount=51 status=1003 data=(token.InsufficientAllowance 50 51)
caller.failures is 1

story what is written below a view is denied
view caller.probe token issue (token.issue alice 1) 0
  ends denied ReadOnly
view caller.pay_many [{"to":"bob","amount":1}]
  ends denied ReadOnly
view caller.recurse 1
  ends denied ReadOnly

story results come back whole
alice deploys token as long with (40000 of "x") "" alice
alice calls caller.probe long about (long.about) 0
  returns status=0 data=(long.About (40000 of "x") "" alice)

story arguments that do not fit are refused
alice calls caller.recurse
  given input 0x811b0000000100000000
  ends aborted bad_arguments
alice calls caller.pay_many
  given input 0x818101
  ends aborted bad_arguments
alice calls caller.pay_many
  given input 0x81818254000000000000000000000000000000000000000020
  ends aborted bad_arguments
# lists and texts of 2^32 and some
alice calls caller.pay_many
  given input 0x819b0000000100000000
  ends aborted bad_arguments
alice calls caller.probe
  given input 0x845400000000000000000000000000000000000000007b0000000100000001614000
  ends aborted bad_arguments
