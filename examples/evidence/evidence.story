# A bank deposits the digest of a loan contract; buyer and notary confirm that they know it.
accounts bank institution=bank
accounts buyer notary stranger institution=town

bank deploys evidence
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "loan 17, signed" (list buyer notary)
  returns 1
  emits Deposited id=1 digest=0x1111111111111111111111111111111111111111111111111111111111111111 algorithm=sha256 depositor=bank kind=contract replaces=null

story whoever holds the document finds who deposited it, and when
evidence.get 1 is digest=0x1111111111111111111111111111111111111111111111111111111111111111 algorithm=sha256 kind=contract note="loan 17, signed" depositor=bank institution=bank time=2026-01-01T00:00:02Z height=2 parties=[{"who":"buyer","confirmed":null},{"who":"notary","confirmed":null}] replaces=null previous=null disavowed=null
stranger calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 copy "" []
  returns 2
evidence.find 0x1111111111111111111111111111111111111111111111111111111111111111 1 is [{"id":1,"deposit":{"digest":"0x1111111111111111111111111111111111111111111111111111111111111111","algorithm":"sha256","kind":"contract","note":"loan 17, signed","depositor":"bank","institution":"bank","time":"2026-01-01T00:00:02Z","height":"2","parties":[{"who":"buyer","confirmed":null},{"who":"notary","confirmed":null}],"replaces":null,"previous":null,"disavowed":null}}]
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
bank calls evidence.replace 1 0x3333333333333333333333333333333333333333333333333333333333333333 sha256 contract "loan 17, corrected" (list buyer notary)
  returns 2
  emits Deposited id=2 digest=0x3333333333333333333333333333333333333333333333333333333333333333 algorithm=sha256 depositor=bank kind=contract replaces=1
  emits Disavowed id=1 reason="replaced by 2"
notary calls evidence.confirm 1
  refused Done id=1
notary calls evidence.confirm 2
bank calls evidence.disavow 1 "once more"
  refused Done id=1
stranger calls evidence.replace 2 0x4444444444444444444444444444444444444444444444444444444444444444 sha256 contract "" []
  refused NotYours id=2
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "" []
  returns 3

story the same depositor deposits a digest once
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "" []
  refused AlreadyDeposited id=1
bank calls evidence.disavow 1 "signed by the wrong person"
bank calls evidence.deposit 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "" []
  returns 2

story a deposit has terms
bank calls evidence.deposit 0x22 sha256 contract "" []
  ends aborted bad_arguments
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sha256 "" "" []
  refused BadTerms reason=kind
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sha256 (33 of x) "" []
  refused BadTerms reason=kind
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sha256 x (257 of x) []
  refused BadTerms reason=note
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sha256 x "" (list buyer notary buyer)
  refused BadTerms reason="a party is named twice"
bank calls evidence.disavow 1 ""
  refused BadTerms reason=reason
bank calls evidence.confirm 9
  refused Unknown id=9

story the parties are others than the depositor, and somebody
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sm3 contract "" (list buyer bank)
  refused BadTerms reason="the depositor is no party"
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sm3 contract "" (list nobody)
  refused BadTerms reason="nobody is no party"
bank calls evidence.deposit 0x2222222222222222222222222222222222222222222222222222222222222222 sm3 contract "" (list buyer)
  returns 2
  emits Deposited id=2 digest=0x2222222222222222222222222222222222222222222222222222222222222222 algorithm=sm3 depositor=bank kind=contract replaces=null

story the parties of a deposit are corrected, and asked again
buyer calls evidence.confirm 1
bank calls evidence.replace 1 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "loan 17, signed" (list buyer stranger)
  returns 2
buyer calls evidence.confirm 1
  refused Done id=1
notary calls evidence.confirm 2
  refused NotYours id=2
stranger calls evidence.confirm 2
bank calls evidence.replace 1 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "loan 17, signed" []
  refused AlreadyDeposited id=2
stranger calls evidence.replace 2 0x1111111111111111111111111111111111111111111111111111111111111111 sha256 contract "" []
  refused NotYours id=2
evidence.find 0x1111111111111111111111111111111111111111111111111111111111111111 1 is [{"id":1,"deposit":{"digest":"0x1111111111111111111111111111111111111111111111111111111111111111","algorithm":"sha256","kind":"contract","note":"loan 17, signed","depositor":"bank","institution":"bank","time":"2026-01-01T00:00:02Z","height":"2","parties":[{"who":"buyer","confirmed":"2026-01-01T00:00:03Z"},{"who":"notary","confirmed":null}],"replaces":null,"previous":null,"disavowed":{"time":"2026-01-01T00:00:04Z","reason":"replaced by 2"}}}]
