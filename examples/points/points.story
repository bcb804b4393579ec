# A loyalty programme: members earn points and spend them with merchants of the programme, and nowhere else.
accounts operator bakery kiosk institution=city
accounts alice bob institution=city

operator deploys points with operator 5184000000 100
operator calls points.admit bakery
  emits Admitted merchant=bakery
operator calls points.award alice 150 welcome
  emits Awarded member=alice amount=150 expires=2026-03-08 reason=welcome

story members spend points with merchants of the programme
alice calls points.redeem bakery 40 "receipt 7"
  emits Redeemed member=alice merchant=bakery amount=40 receipt="receipt 7"
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
  refused InsufficientPoints have=0 need=40
operator calls points.award bakery 1 x
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
  emits Redeemed member=alice merchant=bakery amount=50 receipt=x
points.lots alice is []

story the operator settles with a merchant once, also with one that left
alice calls points.redeem bakery 40 x
alice calls points.settle bakery
  refused NotOperator operator=operator
operator calls points.dismiss bakery
alice calls points.redeem bakery 1 x
  refused NotMerchant who=bakery
operator calls points.settle bakery
  returns 40
  emits Settled merchant=bakery amount=40
operator calls points.settle bakery
  refused BadTerms reason="nothing to settle"
operator calls points.dismiss bakery
  refused NotMerchant who=bakery

story only the operator runs the programme
alice calls points.award alice 1 x
  refused NotOperator operator=operator
bakery calls points.admit kiosk
  refused NotOperator operator=operator
operator calls points.award alice 0 x
  refused BadTerms reason=amount
operator calls points.award alice 340282366920938463463374607431768211455 x
  ends aborted overflow
