# A bank deposits the digest of a loan contract; buyer and notary confirm that they know it.
accounts bank institution=bank
accounts buyer notary stranger institution=town

bank deploys evidence
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 contract "loan 17, signed" (list buyer notary)
  returns 1
  emits Deposited id=1 digest=0x1111111111111111111111111111111111111111111111111111111111111111 depositor=bank kind=contract replaces=null

story whoever holds the document finds who deposited it, and when
evidence.get 1 is digest=0x1111111111111111111111111111111111111111111111111111111111111111 kind=contract note="loan 17, signed" depositor=bank institution=bank time=2026-01-01T00:00:02Z height=2 parties=[{"who":"buyer","confirmed":null},{"who":"notary","confirmed":null}] replaces=null previous=null disavowed=null
stranger calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 copy "" []
  returns 2
evidence.find 0x1111111111111111111111111111111111111111111111111111111111111111 1 is [{"id":1,"deposit":{"digest":"0x1111111111111111111111111111111111111111111111111111111111111111","kind":"contract","note":"loan 17, signed","depositor":"bank","institution":"bank","time":"2026-01-01T00:00:02Z","height":"2","parties":[{"who":"buyer","confirmed":null},{"who":"notary","confirmed":null}],"replaces":null,"previous":null,"disavowed":null}}]
evidence.find 0x2222222222222222222222222222222222222222222222222222222222222222 null is []
evidence.find 0x2222222222222222222222222222222222222222222222222222222222222222 1 is []

story each party confirms once, and nobody else does
stranger calls evidence.confirm 1
  refused NotYours id=1
after 1h
buyer calls evidence.confirm 1
  emits Confirmed id=1 party=buyer
buyer calls evidence.confirm 1
  refused Done id=1
notary calls evidence.confirm 1
bank calls evidence.confirm 1
  refused NotYours id=1

story a deposit that turns out wrong is replaced, and both stay
buyer calls evidence.confirm 1
bank calls evidence.replace 1 0x3333333333333333333333333333333333333333333333333333333333333333 contract "loan 17, corrected" (list buyer notary)
  returns 2
  emits Deposited id=2 digest=0x3333333333333333333333333333333333333333333333333333333333333333 depositor=bank kind=contract replaces=1
  emits Disavowed id=1 reason="replaced by 2"
notary calls evidence.confirm 1
  refused Done id=1
notary calls evidence.confirm 2
bank calls evidence.disavow 1 "once more"
  refused Done id=1
stranger calls evidence.replace 2 0x4444444444444444444444444444444444444444444444444444444444444444 contract "" []
  refused NotYours id=2
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 contract "" []
  returns 3

story the same depositor deposits a digest once
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 contract "" []
  refused AlreadyDeposited id=1
bank calls evidence.disavow 1 "signed by the wrong person"
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 contract "" []
  returns 2

story a deposit has terms
bank calls evidence.deposit 0x22 contract "" []
  ends aborted bad_arguments
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 "" "" []
  refused BadTerms reason=kind
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 (33 of x) "" []
  refused BadTerms reason=kind
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 x (257 of x) []
  refused BadTerms reason=note
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 x "" (list buyer notary buyer)
  refused BadTerms reason=parties
bank calls evidence.disavow 1 ""
  refused BadTerms reason=reason
bank calls evidence.confirm 9
  refused Unknown id=9
