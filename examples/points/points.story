# A loyalty programme: members earn points and spend them with merchants of the programme, and nowhere else.
accounts operator bakery kiosk institution=city
accounts alice bob institution=city
accounts regulator deputy institution=authority roles=regulator

operator deploys points with operator 5184000000 100
operator calls points.admit bakery
  emits Admitted merchant=bakery
operator calls points.award alice 150 welcome
  emits Awarded member=alice amount=150 expires=2026-03-08 reason=welcome

story members spend points with merchants of the programme
alice calls points.redeem bakery 40 "receipt 7"
  returns 1
  emits Redeemed member=alice merchant=bakery number=1 amount=40 receipt="receipt 7"
points.balance_of alice is 110
points.taken bakery is 40
alice calls points.redeem kiosk 1 x
  refused NotMerchant who=kiosk
alice calls points.redeem bob 1 x
  refused NotMerchant who=bob
bob calls points.redeem bakery 1 x
  refused InsufficientPoints have=0 need=1

story there is no way to pass points on
alice calls points.transfer
  given input 0x80
  ends not found
bakery calls points.redeem bakery 40 x
  refused BadTerms reason="a merchant is no member"
operator calls points.award bakery 1 x
  refused BadTerms reason="a merchant is no member"

story who holds points is no merchant, so nobody turns points into takings of their own
operator calls points.admit alice
  refused BadTerms reason="a member is no merchant"
operator calls points.admit nobody
  refused BadTerms reason=merchant
operator calls points.award nobody 1 x
  refused BadTerms reason=member
at 2026-03-08
operator calls points.admit alice
alice calls points.redeem alice 150 x
  refused BadTerms reason="a merchant is no member"
alice calls points.redeem bakery 150 x
  refused BadTerms reason="a merchant is no member"

story a member spends so many a day at most
alice calls points.redeem bakery 70 x
alice calls points.redeem bakery 31 x
  refused OverDailyLimit left=30
alice calls points.redeem bakery 30 x
at 2026-01-01T23:59:59.999Z
alice calls points.redeem bakery 1 x
  refused OverDailyLimit left=0
at 2026-01-02
alice calls points.redeem bakery 1 x
points.balance_of alice is 49

story points expire by the period, and those that expire first go first
at 2026-02-15
operator calls points.award alice 50 birthday
  emits Awarded member=alice amount=50 expires=2026-05-07 reason=birthday
points.lots alice is [{"expires":"2026-03-08","amount":"150"},{"expires":"2026-05-07","amount":"50"}]
alice calls points.redeem bakery 100 x
points.lots alice is [{"expires":"2026-03-08","amount":"50"},{"expires":"2026-05-07","amount":"50"}]
at 2026-03-07T23:59:59.999Z
points.balance_of alice is 100
after 1ms
points.balance_of alice is 50
alice calls points.redeem bakery 51 x
  refused InsufficientPoints have=50 need=51
  emits nothing
alice calls points.redeem bakery 50 x
  emits Expired member=alice amount=50
  emits Redeemed member=alice merchant=bakery number=2 amount=50 receipt=x
points.lots alice is []

story the operator settles what it paid, also with a merchant that left
alice calls points.redeem bakery 40 x
points.taken bakery is 40
# The operator pays 40. Meanwhile:
alice calls points.redeem bakery 10 x
operator calls points.settle bakery 40
  returns 10
  emits Settled merchant=bakery amount=40
operator calls points.settle bakery 11
  refused NotTaken have=10 need=11
operator calls points.settle bakery 0
  refused BadTerms reason=amount
alice calls points.settle bakery 10
  refused NotOperator operator=operator
operator calls points.dismiss bakery
alice calls points.redeem bakery 1 x
  refused NotMerchant who=bakery
operator calls points.settle bakery 10
  returns 0
points.taken bakery is 0
operator calls points.settle bakery 1
  refused NotTaken have=0 need=1
operator calls points.dismiss bakery
  refused NotMerchant who=bakery

story a merchant takes bread back, and gives the points to whom they came from
alice calls points.redeem bakery 40 bread
alice calls points.redeem bakery 60 cake
bakery calls points.reverse alice 1 30
  emits Reversed member=alice merchant=bakery number=1 amount=30
points.balance_of alice is 80
points.taken bakery is 70
points.lots alice is [{"expires":"2026-03-08","amount":"80"}]
alice calls points.redeem bakery 31 x
  refused OverDailyLimit left=30
bakery calls points.reverse alice 1 11
  refused NotTaken have=10 need=11
bakery calls points.reverse alice 1 0
  refused BadTerms reason=amount
bakery calls points.reverse alice 1 10
bakery calls points.reverse alice 1 1
  refused UnknownRedemption member=alice number=1
bakery calls points.reverse bob 2 1
  refused UnknownRedemption member=bob number=2
kiosk calls points.reverse alice 2 1
  refused UnknownRedemption member=alice number=2
alice calls points.reverse alice 2 1
  refused UnknownRedemption member=alice number=2

story what is settled for is not reversed
alice calls points.redeem bakery 40 bread
operator calls points.settle bakery 30
bakery calls points.reverse alice 1 11
  refused NotTaken have=10 need=11
operator calls points.dismiss bakery
bakery calls points.reverse alice 1 10
points.taken bakery is 0
points.balance_of alice is 120

story points come back with the expiry that they had, and not to a merchant
at 2026-02-15
operator calls points.award alice 50 birthday
alice calls points.redeem bakery 100 x
at 2026-02-16
alice calls points.redeem bakery 70 x
points.lots alice is [{"expires":"2026-05-07","amount":"30"}]
bakery calls points.reverse alice 2 60
points.lots alice is [{"expires":"2026-03-08","amount":"50"},{"expires":"2026-05-07","amount":"40"}]
at 2026-03-08
bakery calls points.reverse alice 1 1
  emits Expired member=alice amount=50
  emits Reversed member=alice merchant=bakery number=1 amount=1
  emits Expired member=alice amount=1
points.balance_of alice is 40
alice calls points.redeem bakery 40 x
operator calls points.admit alice
bakery calls points.reverse alice 3 1
  refused BadTerms reason="a merchant is no member"

story a frozen account gets no points, neither awarded, nor spent with it, nor back
alice calls points.redeem bakery 40 bread
regulator calls access.freeze alice in 0 court-order null
operator calls points.award alice 1 x
  refused Frozen account=alice
bakery calls points.reverse alice 1 40
  refused Frozen account=alice
alice calls points.redeem bakery 10 cake
deputy calls access.unfreeze alice settled null
bakery calls points.reverse alice 1 40
regulator calls access.freeze bakery in 0 court-order null
alice calls points.redeem bakery 10 cake
  refused Frozen account=bakery
points.balance_of alice is 140

story another operator takes over, if it accepts
alice calls points.propose_operator alice
  refused NotOperator operator=operator
alice calls points.accept_operator
  refused NotOperator operator=nobody
operator calls points.propose_operator kiosk
  emits Proposed operator=kiosk
alice calls points.accept_operator
  refused NotOperator operator=kiosk
operator calls points.award alice 1 x
operator calls points.propose_operator nobody
kiosk calls points.accept_operator
  refused NotOperator operator=nobody
operator calls points.propose_operator kiosk
kiosk calls points.accept_operator
  emits Accepted operator=kiosk
operator calls points.award alice 1 x
  refused NotOperator operator=kiosk
kiosk calls points.award alice 1 x
kiosk calls points.accept_operator
  refused NotOperator operator=nobody

story only the operator runs the programme
alice calls points.award alice 1 x
  refused NotOperator operator=operator
bakery calls points.admit kiosk
  refused NotOperator operator=operator
operator calls points.award alice 0 x
  refused BadTerms reason=amount
operator calls points.award alice 340282366920938463463374607431768211455 x
  ends aborted overflow
