# A carmaker owes its supplier; the supplier pays its own suppliers with parts of what it is owed.
accounts carmaker institution=motors
accounts supplier foundry mine institution=parts
accounts bank institution=bank
accounts regulator deputy institution=authority roles=regulator

bank deploys token from ../token with Euro EUR bank
bank calls token.issue carmaker 1_000_000
carmaker deploys receivable with token

supplier calls receivable.issue carmaker 900_000 2026-03-31 "invoice 4711"
  returns 1
  emits Issued id=1 debtor=carmaker creditor=supplier amount=900000 due=2026-03-31 reference="invoice 4711"

story an invoice binds nobody until the debtor accepts it
supplier calls receivable.transfer 1 foundry
  refused WrongPhase id=1 phase=Invoiced
foundry calls receivable.accept 1
  refused NotYours id=1 party=carmaker
carmaker calls receivable.accept 1
  emits Accepted id=1 debtor=carmaker
carmaker calls receivable.accept 1
  refused WrongPhase id=1 phase=Owed

story an invoice is taken back before it is accepted, not after
carmaker calls receivable.withdraw 1
  refused NotYours id=1 party=supplier
supplier calls receivable.withdraw 1
  emits Withdrawn id=1
carmaker calls receivable.accept 1
  refused WrongPhase id=1 phase=Cancelled

story an invoice becomes one receivable, not two to be sold twice
supplier calls receivable.issue carmaker 900_000 2026-03-31 "invoice 4711"
  refused AlreadyIssued id=1
supplier calls receivable.issue foundry 1 2026-04-30 "invoice 4711"
  refused AlreadyIssued id=1
foundry calls receivable.issue carmaker 5 2026-03-31 "invoice 4711"
  returns 2
supplier calls receivable.withdraw 1
supplier calls receivable.issue carmaker 890_000 2026-03-31 "invoice 4711"
  returns 3
carmaker calls receivable.accept 3
carmaker calls token.approve receivable 890_000
carmaker calls receivable.settle 3
supplier calls receivable.issue carmaker 890_000 2026-03-31 "invoice 4711"
  refused AlreadyIssued id=3

story an invoice is accepted while it can be paid in time
keep issued
at 2026-03-31
carmaker calls receivable.accept 1
back to issued
at 2026-03-31T00:00:00.001Z
carmaker calls receivable.accept 1
  refused TooLate id=1 due=2026-03-31
supplier calls receivable.withdraw 1
supplier calls receivable.issue carmaker 900_000 2026-04-30 "invoice 4711"
  returns 2
carmaker calls receivable.accept 2

story a receivable is not passed on to nobody, nor to the contract
carmaker calls receivable.accept 1
supplier calls receivable.transfer 1 nobody
  refused BadTerms reason=to
supplier calls receivable.transfer 1 receivable
  refused BadTerms reason=to

story what a holder has is read by the page, to the last
carmaker calls receivable.accept 1
supplier calls receivable.split 1 (list 1 2 899_997)
receivable.held_by supplier 3 10 is [{"id":4,"claim":{"debtor":"carmaker","creditor":"supplier","holder":"supplier","amount":"899997","due":"2026-03-31","reference":"invoice 4711","origin":1,"phase":"Owed"}}]
receivable.held_by supplier 4 10 is []
receivable.held_by supplier 18446744073709551615 10 is []

story a receivable travels down the chain in parts and is paid to whoever holds them
carmaker calls receivable.accept 1
supplier calls receivable.split 1 (list 500_000 300_000 100_000)
  returns (list 2 3 4)
  emits Parted id=2 origin=1 amount=500000
  emits Parted id=3 origin=1 amount=300000
  emits Parted id=4 origin=1 amount=100000
supplier calls receivable.transfer 3 foundry
  emits Passed id=3 from=supplier to=foundry
foundry calls receivable.split 3 (list 200_000 100_000)
  returns (list 5 6)
foundry calls receivable.transfer 6 mine
receivable.held_by foundry 0 10 is [{"id":5,"claim":{"debtor":"carmaker","creditor":"supplier","holder":"foundry","amount":"200000","due":"2026-03-31","reference":"invoice 4711","origin":3,"phase":"Owed"}}]
receivable.held_by supplier 2 10 is [{"id":4,"claim":{"debtor":"carmaker","creditor":"supplier","holder":"supplier","amount":"100000","due":"2026-03-31","reference":"invoice 4711","origin":1,"phase":"Owed"}}]
supplier calls receivable.split 1 (list 1 899_999)
  refused WrongPhase id=1 phase=Divided

carmaker calls token.approve receivable 800_000
carmaker calls receivable.settle 6
  emits token.Transferred from=carmaker to=mine amount=100000
  emits Paid id=6 debtor=carmaker holder=mine amount=100000
carmaker calls receivable.settle 2
carmaker calls receivable.settle 5
token.balance_of mine is 100000
token.balance_of foundry is 200000
token.balance_of supplier is 500000
token.balance_of carmaker is 200000
carmaker calls receivable.settle 6
  refused WrongPhase id=6 phase=Settled
receivable.held_by mine 0 10 is []

story parts are neither more nor less than the whole
carmaker calls receivable.accept 1
supplier calls receivable.split 1 (list 500_000 399_999)
  refused BadParts want=900000 got=899999
supplier calls receivable.split 1 (list 900_000)
  refused BadTerms reason=parts
supplier calls receivable.split 1 (list 900_000 0)
  refused BadTerms reason=amount
supplier calls receivable.split 1 (list 340282366920938463463374607431768211455 900_001)
  ends aborted overflow
carmaker calls receivable.split 1 (list 1 899_999)
  refused NotYours id=1 party=supplier

story nothing is settled unless the token moves
carmaker calls receivable.accept 1
carmaker calls receivable.settle 1
  refused NotPaid status=1003 data=(token.InsufficientAllowance 0 900000)
foundry calls receivable.settle 1
  refused NotYours id=1 party=carmaker
carmaker calls token.approve receivable 900_000
carmaker calls receivable.settle 1
supplier calls receivable.transfer 1 mine
  refused WrongPhase id=1 phase=Settled

story a frozen account is passed nothing, and paid nothing
carmaker calls receivable.accept 1
carmaker calls token.approve receivable 900_000
regulator calls access.freeze mine in 0 court-order null
supplier calls receivable.transfer 1 mine
  refused Frozen account=mine
regulator calls access.freeze supplier in 0 court-order null
carmaker calls receivable.settle 1
  refused NotPaid status=1005 data=(token.Frozen supplier)
supplier calls receivable.transfer 1 foundry
carmaker calls receivable.settle 1
token.balance_of foundry is 900000

story what is not paid when it is due is overdue
carmaker calls receivable.accept 1
at 2026-03-31
receivable.overdue 1 is false
after 1ms
receivable.overdue 1 is true
carmaker calls token.approve receivable 900_000
carmaker calls receivable.settle 1
receivable.overdue 1 is false

story an invoice has terms
supplier calls receivable.issue supplier 1 2026-03-31 x
  refused BadTerms reason=debtor
supplier calls receivable.issue nobody 1 2026-03-31 x
  refused BadTerms reason=debtor
supplier calls receivable.issue carmaker 0 2026-03-31 x
  refused BadTerms reason=amount
supplier calls receivable.issue carmaker 1 2025-12-31 x
  refused BadTerms reason=due
supplier calls receivable.issue carmaker 1 2026-03-31 ""
  refused BadTerms reason=reference
supplier calls receivable.issue carmaker 1 2026-03-31 (129 of x)
  refused BadTerms reason=reference
carmaker calls receivable.accept 7
  refused Unknown id=7
mine views receivable.held_by mine 0 101
  refused BadTerms reason=limit
