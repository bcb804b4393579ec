# What every escrow does, whatever language it is written in. It is paid in the token of the same language.
accounts issuer buyer seller other
accounts regulator deputy institution=authority roles=regulator

issuer deploys token with Gold XAU issuer
issuer deploys escrow with token
issuer calls token.issue buyer 100
buyer calls token.approve escrow 100

story the seller gets what the buyer releases
buyer calls escrow.open seller 60 2026-02-01
  emits token.Transferred from=buyer to=escrow amount=60
  emits Opened id=1 buyer=buyer seller=seller amount=60 deadline=2026-02-01
  returns 1
escrow.get 1 is buyer=buyer seller=seller amount=60 deadline=2026-02-01 status=open
token.balance_of buyer is 40
token.balance_of escrow is 60
token.allowance buyer escrow is 40
buyer calls escrow.release 1
  emits token.Transferred from=escrow to=seller amount=60
  emits Released id=1 seller=seller amount=60
escrow.get 1 is status=released ...
token.balance_of seller is 60
token.balance_of escrow is 0

story the seller can give the amount back at any time
buyer calls escrow.open seller 60 2026-02-01
seller calls escrow.refund 1
  emits token.Transferred from=escrow to=buyer amount=60
  emits Refunded id=1 buyer=buyer amount=60
escrow.get 1 is buyer=buyer seller=seller amount=60 deadline=2026-02-01 status=refunded
token.balance_of buyer is 100
token.balance_of escrow is 0

story the buyer gets the amount back from the deadline on, to the millisecond
buyer calls escrow.open seller 60 2026-02-01T12:00:00.000Z
keep opened
buyer calls escrow.refund 1
  refused TooEarly deadline=2026-02-01T12:00:00Z now=2026-01-01T00:00:06Z
  emits nothing
at 2026-02-01T11:59:59.999Z
buyer calls escrow.refund 1
  refused TooEarly deadline=2026-02-01T12:00:00Z now=2026-02-01T11:59:59.999Z
back to opened
at 2026-02-01T12:00:00.000Z
buyer calls escrow.refund 1
  emits token.Transferred from=escrow to=buyer amount=60
  emits Refunded id=1 buyer=buyer amount=60
back to opened
at 2027-02-01
buyer calls escrow.refund 1
token.balance_of buyer is 100

story the buyer can still release after the deadline
buyer calls escrow.open seller 60 2026-02-01
at 2026-03-01
buyer calls escrow.release 1
token.balance_of seller is 60

story what a freeze keeps from the seller stays in the escrow
buyer calls escrow.open seller 60 2026-02-01
regulator calls access.freeze seller in 0 court-order null
buyer calls escrow.release 1
  refused PaymentFailed status=1005 data=(token.Frozen seller)
escrow.get 1 is status=open ...
deputy calls access.unfreeze seller settled null
buyer calls escrow.release 1
token.balance_of seller is 60

story nobody else has a say
buyer calls escrow.open seller 60 2026-02-01
other calls escrow.release 1
  refused NotYours id=1
other calls escrow.refund 1
  refused NotYours id=1
seller calls escrow.release 1
  refused NotYours id=1
at 2026-03-01
other calls escrow.refund 1
  refused NotYours id=1
escrow.get 1 is status=open ...

story an agreement ends once
buyer calls escrow.open seller 20 2026-02-01
buyer calls escrow.open seller 30 2026-02-01
  returns 2
buyer calls escrow.release 1
seller calls escrow.refund 2
# whoever asks: that it is not open is said first
buyer calls escrow.release 1
  refused NotOpen id=1 status=released
other calls escrow.release 1
  refused NotOpen id=1 status=released
seller calls escrow.refund 1
  refused NotOpen id=1 status=released
other calls escrow.refund 2
  refused NotOpen id=2 status=refunded
buyer calls escrow.release 2
  refused NotOpen id=2 status=refunded
token.balance_of buyer is 80
token.balance_of seller is 20
token.balance_of escrow is 0

story what was never opened cannot end
buyer calls escrow.release 1
  refused NoSuchAgreement id=1
buyer calls escrow.refund 0
  refused NoSuchAgreement id=0
view escrow.get 18446744073709551615
  refused NoSuchAgreement id=18446744073709551615

story terms are checked: the amount, then the seller, then the deadline
buyer calls escrow.open buyer 0 0
  refused BadTerms reason=amount
buyer calls escrow.open buyer 1 0
  refused BadTerms reason=seller
buyer calls escrow.open seller 1 0
  refused BadTerms reason=deadline
at 2026-02-01T12:00:00.000Z
keep noon
buyer calls escrow.open seller 1 2026-02-01T12:00:00.000Z
  refused BadTerms reason=deadline
back to noon
buyer calls escrow.open seller 1 2026-02-01T12:00:00.001Z
  returns 1

story a deadline may be as far away as time can say
buyer calls escrow.open seller 1 18446744073709551615
at 2200-01-01
buyer calls escrow.refund 1
  refused TooEarly deadline=18446744073709551615 now=2200-01-01
seller calls escrow.refund 1

story what the token refuses is handed on, and nothing has happened
buyer calls token.approve escrow 150
buyer calls escrow.open seller 151 2026-02-01
  refused PaymentFailed status=1003 data=(token.InsufficientAllowance 150 151)
buyer calls escrow.open seller 101 2026-02-01
  refused PaymentFailed status=1001 data=(token.InsufficientFunds 100 101)
  emits nothing
view escrow.get 1
  refused NoSuchAgreement id=1
buyer calls escrow.open seller 100 2026-02-01
  returns 1

story an escrow without a token pays nothing
issuer deploys escrow as broken with other
buyer calls broken.open seller 1 2026-02-01
  refused PaymentFailed status=-4 data=0x
view broken.get 1
  refused NoSuchAgreement id=1

story each agreement has its own money
buyer calls token.transfer other 50
other calls token.approve escrow 50
buyer calls escrow.open seller 10 2026-02-01
other calls escrow.open buyer 20 2026-02-01
buyer calls escrow.open other 30 2026-02-01
  returns 3
token.balance_of escrow is 60
other calls escrow.release 2
token.balance_of escrow is 40
token.balance_of buyer is 30
escrow.get 1 is seller=seller amount=10 status=open ...
escrow.get 2 is seller=buyer amount=20 status=released ...
escrow.get 3 is seller=other amount=30 status=open ...

story amounts have 128 bits
issuer calls token.issue buyer 340282366920938463463374607431768211355
buyer calls token.approve escrow 340282366920938463463374607431768211455
buyer calls escrow.open seller 340282366920938463463374607431768211455 2026-02-01
escrow.get 1 is amount=340282366920938463463374607431768211455 ...
buyer calls escrow.release 1
token.balance_of seller is 340282366920938463463374607431768211455

story a view cannot be given a payment
buyer views escrow.open seller 60 2026-02-01
  ends denied ReadOnly
buyer calls escrow.open seller 60 2026-02-01
buyer views escrow.release 1
  ends denied ReadOnly

story arguments that do not fit are refused
buyer calls escrow.open
  given input 0x80
  ends aborted bad_arguments
buyer calls escrow.release
  given input 0x8120
  ends aborted bad_arguments
buyer calls escrow.release
  given input 0x81c249010000000000000000
  ends aborted bad_arguments
