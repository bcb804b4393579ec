# What every token does, whatever language it is written in.
accounts issuer alice bob carol
accounts regulator deputy institution=authority roles=regulator

issuer deploys token with Gold XAU issuer
issuer calls token.issue alice 100
  emits Issued to=alice amount=100

story it says what it is
token.about is name=Gold symbol=XAU issuer=issuer
token.total_supply is 100
token.balance_of alice is 100
token.balance_of bob is 0
token.allowance alice bob is 0

story only the issuer issues
alice calls token.issue alice 1
  refused NotIssuer issuer=issuer
token.total_supply is 100
token.balance_of alice is 100

story the issuer need not be who deployed it
bob deploys token as silver with Silver XAG carol
bob calls silver.issue bob 1
  refused NotIssuer issuer=carol
carol calls silver.issue bob 1
  emits silver.Issued to=bob amount=1
silver.balance_of bob is 1
token.balance_of bob is 0

story issuing adds to the supply and to the balance
issuer calls token.issue alice 1
issuer calls token.issue bob 2
issuer calls token.issue issuer 0
  emits Issued to=issuer amount=0
token.balance_of alice is 101
token.balance_of bob is 2
token.total_supply is 103

story a transfer moves units
alice calls token.transfer bob 40
  emits Transferred from=alice to=bob amount=40
token.balance_of alice is 60
token.balance_of bob is 40
bob calls token.transfer carol 40
token.balance_of bob is 0
token.balance_of carol is 40
token.total_supply is 100

story nobody transfers more than they have
alice calls token.transfer bob 101
  refused InsufficientFunds have=100 need=101
  emits nothing
alice calls token.transfer bob 340282366920938463463374607431768211455
  refused InsufficientFunds have=100 need=340282366920938463463374607431768211455
bob calls token.transfer alice 1
  refused InsufficientFunds have=0 need=1
token.balance_of alice is 100
token.balance_of bob is 0

story a transfer of everything, and of nothing
alice calls token.transfer bob 100
alice calls token.transfer bob 0
  emits Transferred from=alice to=bob amount=0
carol calls token.transfer carol 0
token.balance_of alice is 0
token.balance_of bob is 100

story a transfer to oneself changes nothing
alice calls token.transfer alice 100
  emits Transferred from=alice to=alice amount=100
token.balance_of alice is 100
alice calls token.transfer alice 101
  refused InsufficientFunds have=100 need=101

story a payment says what it is for
alice calls token.pay bob 40 0x1234
  emits Paid from=alice to=bob amount=40 reference=0x1234
alice calls token.pay bob 1 "invoice 7"
  emits Paid from=alice to=bob amount=1 reference="invoice 7"
alice calls token.pay bob 0 0x
  emits Paid from=alice to=bob amount=0 reference=0x
alice calls token.pay bob 60 0x
  refused InsufficientFunds have=59 need=60
token.balance_of bob is 41

story a spender moves what the owner allows, and no more
alice calls token.approve bob 50
  emits Approved owner=alice spender=bob amount=50
token.allowance alice bob is 50
token.allowance bob alice is 0
bob calls token.transfer_from alice carol 20
  emits Transferred from=alice to=carol amount=20
token.allowance alice bob is 30
token.balance_of alice is 80
token.balance_of bob is 0
token.balance_of carol is 20
bob calls token.transfer_from alice carol 31
  refused InsufficientAllowance have=30 need=31
bob calls token.transfer_from alice carol 30
token.allowance alice bob is 0
bob calls token.transfer_from alice carol 1
  refused InsufficientAllowance have=0 need=1
bob calls token.transfer_from alice carol 0
  emits Transferred from=alice to=carol amount=0
token.balance_of alice is 50

story nobody but the corrections of the chain adjusts what an account has
issuer calls token.adjust alice 1 true 1
  refused NotCorrections
alice calls token.adjust alice 1 false 1
  refused NotCorrections
token.balance_of alice is 100
token.total_supply is 100

story an approval replaces the one before
alice calls token.approve bob 50
alice calls token.approve bob 10
token.allowance alice bob is 10
alice calls token.approve bob 0
  emits Approved owner=alice spender=bob amount=0
token.allowance alice bob is 0
alice calls token.approve bob 340282366920938463463374607431768211455
token.allowance alice bob is 340282366920938463463374607431768211455

story an allowance is one owner's for one spender
alice calls token.approve bob 50
carol calls token.transfer_from alice carol 1
  refused InsufficientAllowance have=0 need=1
bob calls token.transfer_from carol bob 1
  refused InsufficientAllowance have=0 need=1

story the allowance is checked before the balance
alice calls token.approve bob 150
bob calls token.transfer_from alice carol 151
  refused InsufficientAllowance have=150 need=151
bob calls token.transfer_from alice carol 101
  refused InsufficientFunds have=100 need=101
token.allowance alice bob is 150
token.balance_of alice is 100

story an owner is no exception
alice calls token.transfer_from alice bob 1
  refused InsufficientAllowance have=0 need=1
alice calls token.approve alice 1
alice calls token.transfer_from alice bob 1
token.balance_of bob is 1

story a spender may move units to the owner or to themselves
alice calls token.approve bob 50
bob calls token.transfer_from alice alice 20
token.balance_of alice is 100
token.allowance alice bob is 30
bob calls token.transfer_from alice bob 30
token.balance_of bob is 30

story what a frozen account has stays, whomever it let spend
alice calls token.approve bob 50
regulator calls access.freeze alice out 0 court-order null
alice calls token.transfer carol 1
  ends denied Frozen
bob calls token.transfer_from alice carol 20
  refused Frozen account=alice
  emits nothing
token.balance_of alice is 100
token.allowance alice bob is 50
# what its allowance does not cover is refused as ever, and what it is given comes
bob calls token.transfer_from alice carol 51
  refused InsufficientAllowance have=50 need=51
issuer calls token.issue alice 1
deputy calls access.unfreeze alice settled null
bob calls token.transfer_from alice carol 20
  emits Transferred from=alice to=carol amount=20
token.allowance alice bob is 30

story a freeze that lapses lets a spender go on
alice calls token.approve bob 50
regulator calls access.freeze alice out 3_600_000 court-order null
after 59m
bob calls token.transfer_from alice carol 20
  refused Frozen account=alice
after 1m
bob calls token.transfer_from alice carol 20
token.balance_of carol is 20

story an account that is frozen for what it is given is given nothing, by whomever
alice calls token.approve bob 50
regulator calls access.freeze carol in 0 court-order null
alice calls token.transfer carol 20
  refused Frozen account=carol
  emits nothing
alice calls token.pay carol 20 0x
  refused Frozen account=carol
bob calls token.transfer_from alice carol 20
  refused Frozen account=carol
issuer calls token.issue carol 1
  refused Frozen account=carol
token.balance_of carol is 0
token.total_supply is 100
deputy calls access.unfreeze carol settled null
alice calls token.transfer carol 20
bob calls token.transfer_from alice carol 20
issuer calls token.issue carol 1
token.balance_of carol is 41

story amounts have 128 bits and never wrap around
issuer calls token.issue bob 340282366920938463463374607431768211355
token.total_supply is 340282366920938463463374607431768211455
issuer calls token.issue carol 1
  ends aborted overflow
issuer calls token.issue carol 340282366920938463463374607431768211455
  ends aborted overflow
token.balance_of carol is 0
bob calls token.transfer alice 340282366920938463463374607431768211355
token.balance_of alice is 340282366920938463463374607431768211455
# on either side of 2^64, where an amount grows from one word to two
alice calls token.transfer bob 18446744073709551615
token.balance_of bob is 18446744073709551615
alice calls token.transfer bob 1
token.balance_of bob is 18446744073709551616
bob calls token.transfer carol 18446744073709551616
token.balance_of carol is 18446744073709551616
token.total_supply is 340282366920938463463374607431768211455

# Beyond 2^63 a balance is read and written, below it is added to unseen.
story balances on either side of 2^63
issuer calls token.issue bob 9223372036854775807
token.balance_of bob is 9223372036854775807
alice calls token.transfer bob 1
token.balance_of bob is 9223372036854775808
bob calls token.transfer bob 9223372036854775808
token.balance_of bob is 9223372036854775808
bob calls token.transfer carol 9223372036854775809
  refused InsufficientFunds have=9223372036854775808 need=9223372036854775809
bob calls token.transfer carol 1
token.balance_of bob is 9223372036854775807
bob calls token.transfer carol 9223372036854775808
  refused InsufficientFunds have=9223372036854775807 need=9223372036854775808
bob calls token.transfer carol 9223372036854775807
token.balance_of bob is 0
token.balance_of carol is 9223372036854775808
carol calls token.transfer bob 9223372036854775808
token.balance_of carol is 0
token.balance_of bob is 9223372036854775808
issuer calls token.issue bob 9223372036854775808
token.balance_of bob is 18446744073709551616
bob calls token.transfer alice 1
token.balance_of bob is 18446744073709551615
token.balance_of alice is 100
bob calls token.transfer bob 1
token.balance_of bob is 18446744073709551615
issuer calls token.issue bob 340282366920938463444927863358058659740
token.balance_of bob is 340282366920938463463374607431768211355
bob calls token.transfer bob 340282366920938463463374607431768211355
bob calls token.transfer bob 1
token.balance_of bob is 340282366920938463463374607431768211355

story names are any text
issuer deploys token as empty with "" "" nobody
empty.about is {"name":"","symbol":"","issuer":"nobody"}
issuer calls empty.issue alice 1
  refused NotIssuer issuer=nobody
issuer deploys token as long with (300 of "金") "\u0000 \"\\" issuer
long.about is name=(300 of "金") symbol="\u0000 \"\\" issuer=issuer

story arguments that do not fit are refused
# nothing, a number, no arguments, one too few, one too many
alice calls token.transfer
  given input 0x
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x01
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x80
  ends aborted bad_arguments
# an address and a bignum whose lengths have 33 bits
alice calls token.transfer
  given input 0x825b0000000100000014222222222222222222222222222222222222222201
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x82542222222222222222222222222222222222222222c25b0000000100000009010000000000000000
  ends aborted bad_arguments
alice calls token.transfer
  given input (token.balance_of bob)
  ends aborted bad_arguments
alice calls token.transfer
  given input (token.pay bob 1 0x)
  ends aborted bad_arguments
# an amount of 129 bits, one below zero, a text, an address of 19 bytes, a bignum that is not shortest
alice calls token.transfer
  given input 0x82540000000000000000000000000000000000000000c25101ffffffffffffffffffffffffffffffff
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x8254000000000000000000000000000000000000000020
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x825400000000000000000000000000000000000000006131
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x82530000000000000000000000000000000000000001
  ends aborted bad_arguments
alice calls token.transfer
  given input 0x82540000000000000000000000000000000000000000c24101
  ends aborted bad_arguments
token.balance_of alice is 100

story what does not exist cannot be called
alice calls token.burn
  given input 0x8101
  ends not found
alice calls token.init
  given input (token.init Lead PB alice)
  ends denied Hook
token.about is name=Gold symbol=XAU issuer=issuer

story a view cannot be given a transfer
alice views token.transfer bob 1
  ends denied ReadOnly
alice views token.approve bob 1
  ends denied ReadOnly
issuer views token.issue bob 1
  ends denied ReadOnly
alice calls token.balance_of alice
  returns 100
  emits nothing

story nothing is half done when the gas runs out
keep before
alice calls token.transfer bob 40
back to before
alice calls token.transfer bob 40
  given 90000 gas
  ends out of gas
  uses 90000 gas
token.balance_of alice is 100
token.balance_of bob is 0
